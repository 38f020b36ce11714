package disk_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk"
	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/ext4"
)

// Places in the partition of a 2 GiB disk, in bytes.
const (
	bitmaps = (1 + 1 + 256) * 4096 // behind superblock, one block of descriptors, reserved blocks
	inodes  = bitmaps + 2*4096
	journal = inodes + (64+1+4+1)*4096 // behind the inode table, root, lost+found, the resize inode's block
)

func TestPrepareSound(t *testing.T) {
	for name, mountFirst := range map[string]bool{"mounted by init": true, "not mounted": false} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 2*gib)
			b.put()
			if r := b.prepare(mountFirst); len(without(r)) != 0 || r.Repaired || r.SetAside || r.Grown() || r.Size < b.perm-mib {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestPrepareRepairs damages what can be mended: everything must still be there.
func TestPrepareRepairs(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b *box)
		want   string // in the first sentence
		dirty  bool   // the power was cut while files were written
	}{
		"superblock":                      {func(b *box) { b.damage(0, 4096, 0) }, "superblock was lost", false},
		"name in the superblock":          {func(b *box) { b.damage(1024+0x68, 16, 0x5a) }, "superblock was lost", false},
		"superblock after a power cut":    {func(b *box) { b.damage(1024, 1024, 0x5a) }, "superblock was lost", true},
		"descriptors":                     {func(b *box) { b.damage(4096, 4096, 0x5a) }, "made anew from the files", false},
		"descriptors after a power cut":   {func(b *box) { b.damage(4096, 4096, 0x5a) }, "", true},
		"bitmaps":                         {func(b *box) { b.damage(bitmaps, 8192, 0x5a) }, "made anew from the files", false},
		"superblock, descriptors, bitmap": {func(b *box) { b.damage(0, inodes, 0x5a) }, "superblock was lost", false},
		"journal":                         {func(b *box) { b.damage(journal, 4096, 0x5a) }, "journal cannot be replayed", false},
		"noted errors":                    {func(b *box) { b.tool("debugfs", "-w", "-R", "ssv error_count 3") }, "note of errors was cleared", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 2*gib)
			if c.dirty {
				b.cut()
			} else {
				b.put()
			}
			c.damage(b)
			if name == "bitmaps" { // which the kernel only notices when it needs them
				b.tool("debugfs", "-w", "-R", "ssv error_count 1")
			}
			r := b.prepare(false)
			got := without(r)
			if r.SetAside || c.want != "" && (len(got) == 0 || !strings.Contains(strings.Join(got, " "), c.want)) {
				t.Errorf("%+v, want a sentence with %q", r, c.want)
			}
			if again := b.prepare(true); len(without(again)) != 0 {
				t.Errorf("the boot after that: %q", again.Sentences)
			}
		})
	}
}

// TestPrepareTornSuperblock cuts the power between the two sectors of the superblock while the file system is in use: neither half goes
// with the other, no kernel mounts it, and nothing may be lost. On the disk there once was a larger file system of the same name.
func TestPrepareTornSuperblock(t *testing.T) {
	for name, old := range map[string]int64{"the first sector is old": 1024, "the second sector is old": 1536} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 2*gib)
			b.format(b.perm - 256*mib)
			b.put()
			before := make([]byte, 512)
			if _, err := (section{b.file}).ReadAt(before, old); err != nil {
				t.Fatal(err)
			}
			b.cut()
			if _, err := (section{b.file}).WriteAt(before, old); err != nil {
				t.Fatal(err)
			}
			if _, err := ext4.ReadSuperblock(section{b.file}, 0); !errors.Is(err, ext4.ErrChecksum) {
				t.Fatalf("the superblock is not torn: %v", err)
			}
			r := b.prepare(false)
			if got := strings.Join(without(r), " "); r.SetAside || !strings.Contains(got, "The superblock was lost (superblock of group 0: wrong checksum)") {
				t.Errorf("%+v", r)
			}
			if again := b.prepare(true); len(without(again)) != 0 {
				t.Errorf("the boot after that: %q", again.Sentences)
			}
		})
	}
}

// cut writes the files and takes the state of the disk while it is still mounted.
func (b *box) cut() {
	b.t.Helper()
	var now string
	b.run(func(p disk.Place) error {
		if err := p.Mount(); err != nil {
			return err
		}
		if err := writeFiles(p.Mountpoint); err != nil {
			return err
		}
		now = filepath.Join(b.t.TempDir(), "cut")
		out, err := exec.Command("cp", "--sparse=always", b.file.Name(), now).CombinedOutput()
		if err != nil {
			b.t.Errorf("cp: %s", out)
		}
		return err
	})
	f, err := os.OpenFile(now, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	b.file = f
}

func TestPrepareErrorsWhileMounted(t *testing.T) {
	b := newBox(t, 2*gib)
	b.put()
	b.tool("debugfs", "-w", "-R", "ssv error_count 3")
	if r := b.prepare(true); !strings.Contains(strings.Join(r.Sentences, " "), "The kernel found errors in the file system: 3 errors") ||
		!strings.Contains(strings.Join(r.Sentences, " "), "note of errors was cleared") {
		t.Errorf("%q", r.Sentences)
	}
}

// TestPrepareInUse keeps a file open: nothing is taken away from under its user.
func TestPrepareInUse(t *testing.T) {
	b := newBox(t, 2*gib)
	b.put()
	b.tool("debugfs", "-w", "-R", "ssv error_count 3")
	if r := b.prepareInUse(); !r.Mounted || !strings.Contains(strings.Join(r.Sentences, " "), "could not be checked") {
		t.Errorf("%+v", r)
	}
}

// TestRescueWaits interrupts a rescue after the files were saved, and keeps the old file system in use at the next boot: it must
// not grow over them, and the boot after that puts them back.
func TestRescueWaits(t *testing.T) {
	b := newBox(t, 2*gib)
	b.format(b.perm - 256*mib)
	b.put()
	if err := disk.Save(t.Context(), section{b.file}, b.perm); err != nil {
		t.Fatal(err)
	}
	r := b.prepareInUse()
	said := strings.Join(r.Sentences, " ")
	if !r.Mounted || r.Grown() || !strings.Contains(said, "the rescue waits for the next boot") || strings.Contains(said, "grow") {
		t.Errorf("%+v", r)
	}
	if r := b.prepare(true); !r.SetAside || r.Saved < len(nodeFiles()) {
		t.Errorf("the boot after that: %+v", r)
	}
}

// TestPrepareSetsAside damages what cannot be mended.
func TestPrepareSetsAside(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b *box)
		saved  int // files and folders at least
	}{
		"root directory": {func(b *box) { b.damage(inodes+64*4096, 4096, 0x5a) }, 5},
		"root inode":     {func(b *box) { b.damage(inodes+256, 256, 0x5a) }, 5},
		"everything, garbage": {func(b *box) {
			b.damage(0, 300*mib, 0x5a)
			b.damage(384*mib, 8192, 0x5a)
			b.damage(640*mib, 8192, 0x5a)
			b.damage(896*mib, 8192, 0x5a)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 2*gib)
			b.put()
			c.damage(b)
			var r disk.Report
			b.run(func(p disk.Place) error {
				var err error
				r, err = p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
				if err != nil {
					return err
				}
				all, err := filepath.Glob(filepath.Join(p.Mountpoint, "set-aside/*/*"))
				if err != nil || len(all) < 2 {
					t.Errorf("kept of the old file system: %v, %v", all, err)
				}
				if c.saved > 0 { // without names, but whole
					database := hash(strings.NewReader(string(nodeFiles()["kdht/kdht.db"])))
					found := slices.ContainsFunc(files(p.Mountpoint), func(name string) bool {
						f, err := os.Open(name)
						if err != nil {
							return false
						}
						defer f.Close()
						return hash(f) == database
					})
					if !found {
						t.Error("the database was not saved")
					}
				}
				return os.WriteFile(filepath.Join(p.Mountpoint, "new"), nil, 0o600)
			})
			b.tool("e2fsck", "-fn")
			if !r.SetAside || !r.Mounted || r.Saved < c.saved || len(r.Sentences) < 2 || !strings.Contains(r.Sentences[0]+r.Sentences[1], "beyond repair") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func files(root string) (list []string) {
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return nil
	})
	return list
}

// TestPrepareDamagedFolder loses one folder: its files come back without their names, the others as they were.
func TestPrepareDamagedFolder(t *testing.T) {
	b := newBox(t, 2*gib)
	b.put()
	out := b.tool("debugfs", "-R", "bmap tailscale 0")
	lines := strings.Fields(out)
	block, err := parse(lines[len(lines)-1])
	if err != nil {
		t.Fatalf("debugfs: %q", out)
	}
	b.damage(block*4096, 4096, 0x5a)
	b.tool("debugfs", "-w", "-R", "ssv error_count 1") // the kernel has run into it
	r := b.prepare(true, "tailscale/state")
	if !r.SetAside || r.LostCount == 0 || len(r.Lost) == 0 || r.Saved < 5 {
		t.Errorf("%+v", r)
	}
}

func TestPrepareBlank(t *testing.T) {
	b := newBox(t, 2*gib)
	b.damage(0, 4*mib, 0)
	if err := unix.Fallocate(int(b.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, disktest.PermStart, b.perm); err != nil {
		t.Fatal(err)
	}
	b.run(func(p disk.Place) error {
		r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		if !r.Mounted || r.SetAside || !strings.Contains(r.Sentences[0], "was empty") {
			t.Errorf("%+v", r)
		}
		return err
	})
	b.tool("e2fsck", "-fn")
}

// TestPrepareNoMountPoint does not take a fault of the system for one of the file system.
func TestPrepareNoMountPoint(t *testing.T) {
	for name, cut := range map[string]bool{"clean": false, "after a power cut": true} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, 2*gib)
			if cut {
				b.cut()
			} else {
				b.put()
			}
			b.run(func(p disk.Place) error {
				p.Mountpoint = filepath.Join(p.Mountpoint, "missing")
				r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
				if !errors.Is(err, disk.ErrNotMounted) || r.SetAside || r.Repaired || len(r.Sentences) != 1 {
					t.Errorf("%+v, %v", r, err)
				}
				return nil
			})
			if r := b.prepare(false); len(without(r)) != 0 || r.SetAside {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestPrepareFlashedAgain writes an image to a disk at whose end a rescue was once interrupted: it is not that of the
// new file system, although that grows to there.
func TestPrepareFlashedAgain(t *testing.T) {
	b := newBox(t, 2*gib)
	b.put()
	if err := disk.Save(t.Context(), section{b.file}, b.perm); err != nil {
		t.Fatal(err)
	}
	whole := b.perm
	disktest.WriteGPT(t, b.file)
	b.perm = disktest.ImageSize - disktest.PermStart - mib
	b.format(b.perm)
	for range 2 {
		b.run(func(p disk.Place) error {
			if err := p.Mount(); err != nil {
				return err
			}
			r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
			if !r.Mounted || r.SetAside {
				t.Errorf("%+v", r)
			}
			return err
		})
		b.perm = whole
	}
}

// section is the partition of a box.
type section struct{ *os.File }

func (s section) ReadAt(p []byte, off int64) (int, error) {
	return s.File.ReadAt(p, disktest.PermStart+off)
}
func (s section) WriteAt(p []byte, off int64) (int, error) {
	return s.File.WriteAt(p, disktest.PermStart+off)
}

// TestPrepareForeign leaves a file system of another kind alone: gokrazy's init mounts FAT and bcachefs too.
func TestPrepareForeign(t *testing.T) {
	b := newBox(t, 2*gib)
	b.run(func(p disk.Place) error {
		if err := unix.Mount("none", p.Mountpoint, "tmpfs", 0, ""); err != nil {
			return err
		}
		r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		if !r.Mounted || r.Kind != "tmpfs" || len(r.Sentences) != 1 {
			t.Errorf("%+v", r)
		}
		return err
	})
}

// TestPrepareElsewhere leaves alone what is mounted from another device.
func TestPrepareElsewhere(t *testing.T) {
	b, other := newBox(t, 2*gib), newBox(t, 2*gib)
	device := disktest.Loop(t, other.file.Name())
	disktest.Partition(t, device, disktest.PermStart, other.perm)
	b.run(func(p disk.Place) error {
		if err := (disk.Place{Partition: device + "p4", Mountpoint: p.Mountpoint}).Mount(); err != nil {
			return err
		}
		r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		if !r.Mounted || len(r.Sentences) != 1 || !strings.Contains(r.Sentences[0], "is not the persistent partition") {
			t.Errorf("%+v", r)
		}
		return err
	})
}

// TestPrepareNoDevice says what is missing.
func TestPrepareNoDevice(t *testing.T) {
	p := disk.Place{Disk: "/dev/null", Partition: "/dev/no-such-disk", Number: 4, Mountpoint: t.TempDir()}
	r, err := p.Prepare(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if !errors.Is(err, disk.ErrNotMounted) || !errors.Is(err, os.ErrNotExist) || r.Mounted || len(r.Sentences) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
