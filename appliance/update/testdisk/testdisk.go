// Package testdisk has the bytes of a disk as gokrazy's packer makes it, for tests: partition tables, two boot file
// systems and four root file systems. data/generate.go.txt is the program that made them with gokrazy's own writers; it
// has to be built below the module path github.com/gokrazy, because they are internal there.
package testdisk

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf/testenv"
)

//go:embed data/*.gz
var data embed.FS

// Places on the disk, bytes.
const (
	Size      = 1300 << 20
	BootStart = 4 << 20
	BootSize  = 100 << 20
	RootSize  = 500 << 20
)

// File gives one of the files: v1.fat and v2.fat, v1.mbr and v2.mbr, v1.squashfs, v2.squashfs, arm64.squashfs,
// noguard.squashfs (with no program that could end a trial), gpt.head and gpt.tail. v2.fat was made for another host name, has another kernel, other boot loaders and one more parameter.
func File(t testing.TB, name string) []byte {
	t.Helper()
	f, err := data.Open("data/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Loop makes a disk with v1 in partitions 1 and 2 and nothing in 3, on a loop device, with the root file system of
// partition 2 mounted. It skips without the right to, and cleans up after the test.
func Loop(t testing.TB) (device, root string) {
	t.Helper()
	testenv.NeedRoot(t)
	path := t.TempDir() + "/disk"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(Size); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"gpt.head": 0, "gpt.tail": Size - 33*512, "v1.fat": BootStart, "v1.squashfs": BootStart + BootSize} {
		if _, err := f.WriteAt(File(t, name), at); err != nil {
			t.Fatal(err)
		}
	}
	device = attach(t, path)
	root = t.TempDir()
	Mount(t, device+"p2", root)
	return device, root
}

// attach makes a loop device of a file, with its partitions.
func attach(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", "--direct-io=on", path).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	if _, err := os.Stat(device + "p1"); err != nil { // this kernel does not read partition tables itself
		if out, err := exec.Command("partx", "--add", device).CombinedOutput(); err != nil {
			t.Fatalf("partx: %v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("partx", "--delete", device).Run() })
	}
	return device
}

// Mount mounts a squashfs until the end of the test or [Unmount].
func Mount(t testing.TB, device, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "squashfs", "-o", "ro", device, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() }) // it may be done
}

// Unmount unmounts a device wherever it is mounted, and waits until it is free. Whoever has made a mount namespace meanwhile has the mount as
// well, until that namespace ends: programs of tests in other packages, which run beside this one.
func Unmount(t testing.TB, device string) {
	t.Helper()
	if out, err := exec.Command("umount", "--all-targets", device).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0) // of a block device: which nobody has mounted
		if err == nil {
			_ = f.Close()
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Kernel is the kernel in one of the boot file systems.
func Kernel(t testing.TB, name string) []byte {
	t.Helper()
	b := File(t, name)
	seed, n := byte(1), 9<<20+100
	if name == "v2.fat" {
		seed, n = 2, 9<<20+5000
	}
	k := make([]byte, n)
	x := uint32(seed)
	for i := range k {
		if i%512 == 0 {
			x = x*1664525 + 1013904223
		}
		k[i] = byte(x >> 24)
	}
	if !bytes.Contains(b, k) {
		t.Fatalf("the kernel is not in %s", name)
	}
	return k
}
