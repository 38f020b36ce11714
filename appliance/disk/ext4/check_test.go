//go:build linux

package ext4_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/disktest"
	"kdht/appliance/disk/ext4"
	"kdht/bpf/testenv"
)

func check(t testing.TB, f *os.File) ext4.Problems {
	t.Helper()
	p, err := ext4.Check(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheckNew(t *testing.T) {
	for _, size := range []int64{16 * mib, 100 * mib, 400 * mib, 16 * gib} {
		if p := check(t, image(t, size)); len(p) != 0 {
			t.Errorf("%d bytes: %v", size, p)
		}
	}
}

// fill has the kernel make many files, among them large, sparse, fragmented, linked and
// deleted ones, a directory with an index, attributes and symbolic links.
func fill(t testing.TB, f *os.File) {
	t.Helper()
	device := disktest.Loop(t, f.Name())
	disktest.OwnMounts(t, func() error {
		dir := t.TempDir()
		if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
			return err
		}
		at := func(name string) string { return filepath.Join(dir, name) }
		if err := os.Mkdir(at("many"), 0o755); err != nil {
			return err
		}
		for n := range 700 {
			name := at(fmt.Sprintf("many/a file with a long name, number %d, in a directory with an index", n))
			if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
				return err
			}
		}
		sparse, err := os.Create(at("sparse"))
		if err != nil {
			return err
		}
		for n := range 500 { // more extents than fit in the inode
			if _, err := sparse.WriteAt([]byte{1}, int64(n)*3*4096); err != nil {
				return err
			}
		}
		long := at("a long symbolic link")
		err = errors.Join(sparse.Close(), os.WriteFile(at("large"), make([]byte, 30*mib), 0o640),
			os.Link(at("large"), at("large too")), os.Symlink("large", at("link")),
			os.Symlink(fmt.Sprintf("%0100d", 1), long), os.Remove(at("many/a file with a long name, number 7, in a directory with an index")),
			unix.Setxattr(at("large"), "user.note", make([]byte, 2000), 0), unix.Mkfifo(at("pipe"), 0o600))
		return errors.Join(err, unix.Unmount(dir, 0))
	})
}

func TestCheckUsed(t *testing.T) {
	f := image(t, 400*mib)
	fill(t, f)
	fsck(t, f.Name())
	if p := check(t, f); len(p) != 0 {
		t.Errorf("%v", p)
	}
}

// TestCheckMkfs checks a file system that Debian's mke2fs made.
func TestCheckMkfs(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(400 * mib); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testenv.NeedTool(t, "mkfs.ext4"), "-q", "-b", "4096", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fill(t, f)
	if p := check(t, f); len(p) != 0 {
		t.Errorf("%v", p)
	}
}
