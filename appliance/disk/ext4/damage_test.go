//go:build linux

package ext4_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kdht/appliance/disk/ext4"
)

// used gives an image of 400 MiB with files in it.
func used(t testing.TB) *os.File {
	t.Helper()
	f := image(t, 400*mib)
	fill(t, f)
	return f
}

func damage(t testing.TB, f *os.File, off, n int64) {
	t.Helper()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(n)), off); err != nil {
		t.Fatal(err)
	}
}

// TestRepair damages what can be made anew, in several ways, and has e2fsck look at the result.
func TestRepair(t *testing.T) {
	whole := used(t)
	bitmaps := int64(1+1+256) * 4096 // of group 0: behind superblock, descriptors and reserved blocks
	cases := map[string]func(t *testing.T, f *os.File){
		"superblock":             func(t *testing.T, f *os.File) { damage(t, f, 1024, 1024) },
		"first 4 KiB zero":       func(t *testing.T, f *os.File) { damage(t, f, 0, 4096) },
		"descriptors":            func(t *testing.T, f *os.File) { damage(t, f, 4096, 4096) },
		"descriptor of group 2":  func(t *testing.T, f *os.File) { damage(t, f, 4096+2*64, 64) },
		"block bitmap":           func(t *testing.T, f *os.File) { damage(t, f, bitmaps, 4096) },
		"inode bitmap":           func(t *testing.T, f *os.File) { damage(t, f, bitmaps+4096, 4096) },
		"superblock to bitmaps":  func(t *testing.T, f *os.File) { damage(t, f, 0, bitmaps+2*4096) },
		"bitmap of another":      func(t *testing.T, f *os.File) { damage(t, f, 128*mib+bitmaps, 4096) },
		"superblock and a copy":  func(t *testing.T, f *os.File) { damage(t, f, 0, 4096); damage(t, f, 128*mib, 8192) },
		"descriptors and a copy": func(t *testing.T, f *os.File) { damage(t, f, 4096, 4096); damage(t, f, 128*mib, 8192) },
	}
	for name, break_ := range cases {
		t.Run(name, func(t *testing.T) {
			f := clone(t, whole)
			break_(t, f)
			repair(t, f)
			fsck(t, f.Name())
			if p := check(t, f); len(p) != 0 {
				t.Errorf("after the repair: %v", p)
			}
		})
	}
}

// TestEarlierLife formats a device anew that had a larger file system, as who writes an image to a card again does, which then has the
// same UUID. The copies of the larger one must not be taken for those of the new one, whatever half of its superblock is left.
func TestEarlierLife(t *testing.T) {
	for name, uuid := range map[string][16]byte{"the same UUID": options.UUID, "another UUID": {1}} {
		for left, broken := range map[string][2]int64{"first sector": {1536, 512}, "second sector": {1024, 512}, "nothing": {1024, 1024}} {
			t.Run(name+", left: "+left, func(t *testing.T) {
				f := image(t, 1300*mib)
				o := options
				o.Size, o.UUID = 175*mib, uuid
				if err := ext4.Format(f, o); err != nil {
					t.Fatal(err)
				}
				damage(t, f, broken[0], broken[1])
				s, err := ext4.FindSuperblock(f, 1300*mib)
				if err != nil || s.UUID != uuid || s.Size != 175*mib {
					t.Errorf("%+v, %v", s, err)
				}
			})
		}
	}
}

// TestDamagedName damages the name alone: a superblock that is told from others by its name must not be lost for that.
func TestDamagedName(t *testing.T) {
	f := image(t, 400*mib)
	damage(t, f, 1024+0x68+3, 1) // a byte of the UUID
	s, err := ext4.FindSuperblock(f, 400*mib)
	if err != nil || s.UUID != options.UUID || s.Group != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestDamagedBit flips each bit of a superblock in turn, also the one that says that it has a checksum: all is damage that a
// copy mends, none is a file system of another kind.
func TestDamagedBit(t *testing.T) {
	f := image(t, 400*mib)
	whole := make([]byte, 1024)
	if _, err := f.ReadAt(whole, 1024); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := f.WriteAt(b, 1024); err != nil {
			t.Fatal(err)
		}
		if _, err := ext4.ReadSuperblock(f, 0); !errors.Is(err, ext4.ErrChecksum) && !errors.Is(err, ext4.ErrNoSuperblock) {
			t.Errorf("bit %d of byte %#x: %v", bit%8, bit/8, err)
		}
		if s, err := ext4.FindSuperblock(f, 400*mib); err != nil || s.UUID != options.UUID {
			t.Errorf("bit %d of byte %#x: %+v, %v", bit%8, bit/8, s, err)
		}
	}
}

// repair does what the boot code does, without the journal.
func repair(t testing.TB, f *os.File) {
	t.Helper()
	if _, err := ext4.ReadSuperblock(f, 0); err != nil {
		s, err := ext4.FindSuperblock(f, 400*mib)
		if err != nil {
			t.Fatal(err)
		}
		if err := ext4.RestoreSuperblock(f, s); err != nil {
			t.Fatal(err)
		}
		if s, err := ext4.ReadSuperblock(f, 0); err != nil || !s.NotedErrors() {
			t.Fatalf("the restored superblock: %+v, %v; want one with errors noted", s, err)
		}
	}
	if err := ext4.RebuildGroups(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := ext4.ClearErrors(f); err != nil {
		t.Fatal(err)
	}
}

func clone(t testing.TB, f *os.File) *os.File {
	t.Helper()
	c, err := os.Create(filepath.Join(t.TempDir(), "clone"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	b := make([]byte, mib)
	for off := int64(0); ; off += mib {
		n, err := f.ReadAt(b, off)
		if bytes.Count(b[:n], []byte{0}) < n { // stays sparse
			if _, err := c.WriteAt(b[:n], off); err != nil {
				t.Fatal(err)
			}
		}
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Truncate(400 * mib); err != nil {
		t.Fatal(err)
	}
	return c
}

// tree gives what Walk reads: path to mode, target and a hash of the contents.
func tree(t testing.TB, f *os.File) (files map[string]string, lost []string) {
	t.Helper()
	files = map[string]string{}
	lost, err := ext4.Walk(t.Context(), f, func(x *ext4.File) error {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(x, 0, x.Size)); err != nil {
			return err
		}
		files[x.Path] = x.Mode.String() + " " + x.Link + " " + string(h.Sum(nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, lost
}

func TestWalk(t *testing.T) {
	f := used(t)
	files, lost := tree(t, f)
	if len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	large := sha256.Sum256(make([]byte, 30*mib))
	if got, want := files["large"], fs.FileMode(0o640).String()+"  "+string(large[:]); got != want {
		t.Errorf("large: %q", got)
	}
	if !strings.HasPrefix(files["link"], "Lrwxrwxrwx large ") || !strings.Contains(files["a long symbolic link"], strings.Repeat("0", 99)+"1 ") {
		t.Errorf("links: %q, %q", files["link"], files["a long symbolic link"])
	}
	sparse := make([]byte, 499*3*4096+1)
	for n := range 500 {
		sparse[n*3*4096] = 1
	}
	if sum := sha256.Sum256(sparse); !strings.HasSuffix(files["sparse"], string(sum[:])) {
		t.Error("the sparse file is not what was written")
	}
	if n := len(slices.DeleteFunc(slices.Collect(keys(files)), func(p string) bool { return !strings.HasPrefix(p, "many/") })); n != 699 {
		t.Errorf("%d of 699 small files", n)
	}
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestBeyondRepair damages inodes and directories: nothing may be changed, and the rest must stay readable.
func TestBeyondRepair(t *testing.T) {
	whole := used(t)
	all, _ := tree(t, whole)
	table := int64(1+1+256+2) * 4096 // inodes of group 0
	root := table + 64*4096          // the first block behind it
	for name, c := range map[string]struct {
		off, n int64
		keep   int // files at least that Walk still finds
	}{
		"a block of inodes": {table + 10*4096, 4096, len(all) - 17},
		"root directory":    {root, 4096, 701},
		"root inode":        {table + 256, 256, 701},
	} {
		t.Run(name, func(t *testing.T) {
			f := clone(t, whole)
			damage(t, f, c.off, c.n)
			var damaged *ext4.DamagedError
			if err := ext4.RebuildGroups(t.Context(), readOnly{f, t}); !errors.As(err, &damaged) || damaged.Problems.Worst() != ext4.Files {
				t.Errorf("error %v, want a DamagedError", err)
			}
			files, lost := tree(t, f)
			if len(files) < c.keep || len(lost) == 0 {
				t.Errorf("%d files of %d are readable, want %d; %d reported lost", len(files), len(all), c.keep, len(lost))
			}
		})
	}
}

// readOnly fails the test when it is written to.
type readOnly struct {
	*os.File
	t *testing.T
}

func (r readOnly) WriteAt(b []byte, off int64) (int, error) {
	r.t.Errorf("%d bytes written at %d", len(b), off)
	return len(b), nil
}
