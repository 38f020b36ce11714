package disk_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk"
	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/ext4"
)

// old gives a partition of 100 MiB in memory, with a node's files and a damaged inode.
func old(t *testing.T) *disktest.Memory {
	t.Helper()
	const size = 100 * mib
	f, err := os.Create(filepath.Join(t.TempDir(), "partition"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Format(f, ext4.Options{Size: size, Label: "perm"}); err != nil {
		t.Fatal(err)
	}
	device := disktest.Loop(t, f.Name())
	dir := t.TempDir()
	disktest.OwnMounts(t, func() error {
		if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
			return err
		}
		if err := writeFiles(dir); err != nil {
			return err
		}
		return unix.Unmount(dir, 0)
	})
	m := disktest.NewMemory(size)
	b := make([]byte, mib)
	for off := int64(0); off < size; off += mib {
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < mib; n += 4096 {
			if bytes.Count(b[n:n+4096], []byte{0}) < 4096 {
				if _, err := m.WriteAt(b[n:n+4096], off+int64(n)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return m.Clone()
}

// tree gives what can be read of a file system: path to a hash of the contents.
func tree(t *testing.T, r io.ReaderAt) map[string][32]byte {
	t.Helper()
	files := map[string][32]byte{}
	lost, err := ext4.Walk(t.Context(), r, func(f *ext4.File) error {
		files[f.Path] = hash(io.NewSectionReader(f, 0, f.Size))
		return nil
	})
	if err != nil || len(lost) > 0 {
		t.Fatalf("lost %v, %v", lost, err)
	}
	return files
}

// TestRescuePowerCut cuts the power after every sector that a rescue writes before it mounts: up to
// the note, the old files must all be readable; from then on, what was saved must be.
func TestRescuePowerCut(t *testing.T) {
	base := old(t)
	want := tree(t, base)
	saved := base.Clone()
	if err := disk.Save(t.Context(), saved, saved.Size()); err != nil {
		t.Fatal(err)
	}
	for n := range saved.Writes() {
		// Reading everything takes a moment; the last sectors, those of the note, are the ones that count.
		last := saved.Writes() - n
		if n%7 != 0 && last > 16 {
			continue
		}
		cut := saved.Replay(base, n)
		noted, err := disk.Resume(cut, cut.Size())
		if err != nil {
			t.Fatal(err)
		}
		// The JSON text may end before the last sector of its 4 KiB.
		if noted && last > 8 {
			t.Fatalf("cut %d sectors before the end: there is a note", last)
		}
		if !noted && !maps.Equal(tree(t, cut), want) {
			t.Fatalf("cut after %d of %d sectors: the old files are not what they were", n, saved.Writes())
		}
	}
	made := saved.Clone()
	if noted, err := disk.Resume(made, made.Size()); err != nil || !noted {
		t.Fatalf("after saving: note %t, %v", noted, err)
	}
	for n := range made.Writes() + 1 {
		// Most of them are the zeros of the journal.
		if n > 50 && n < made.Writes()-50 && n%89 != 0 {
			continue
		}
		cut := made.Replay(saved, n)
		noted, err := disk.Resume(cut, cut.Size())
		if err != nil || !noted {
			t.Fatalf("cut after %d of %d sectors of the new file system: note %t, %v", n, made.Writes(), noted, err)
		}
		if p, err := ext4.Check(t.Context(), cut); err != nil || len(p) > 0 {
			t.Fatalf("cut after %d sectors: %v, %v", n, p, err)
		}
	}
	t.Logf("%d sectors of saved files and note, %d of the new file system", saved.Writes(), made.Writes())

	root := t.TempDir()
	if lost, err := disk.Unpack(t.Context(), made, made.Size(), root); err != nil || len(lost) > 0 {
		t.Fatalf("%v, %v", lost, err)
	}
	if got := missing(root); len(got) > 0 {
		t.Errorf("files missing: %v", got)
	}
}

// TestRescueFull saves the small files of a partition whose database leaves no room for
// another copy of itself.
func TestRescueFull(t *testing.T) {
	b := newBox(t, 1300*mib)
	noise := make([]byte, mib)
	seed := uint32(1)
	for n := range noise {
		seed = seed*1664525 + 1013904223
		noise[n] = byte(seed >> 24)
	}
	b.run(func(p disk.Place) error {
		if err := p.Mount(); err != nil {
			return err
		}
		if err := writeFiles(p.Mountpoint); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(p.Mountpoint, "large"))
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			if _, err := f.Write(noise); err != nil {
				return f.Sync()
			}
		}
	})
	b.damage(inodes+256*(8-1), 256, 0x5a) // the journal's inode
	r := b.prepare(false)
	if !r.SetAside || !slices.ContainsFunc(r.Lost, func(s string) bool { return s == "/large: no room to save it" }) {
		t.Errorf("%+v", r)
	}
}
