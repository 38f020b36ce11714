package flash_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/disk/ext4"
	"kdht/bpf/testenv"
	"kdht/image/flash"
)

const size = 40 << 20

// loop makes a loop device over a new file of size bytes and returns the paths of both.
func loop(t *testing.T) (dev, file string) {
	t.Helper()
	testenv.NeedRoot(t)
	losetup := testenv.NeedTool(t, "losetup")
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(losetup, "--find", "--show", file).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command(losetup, "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach: %v %s", err, out)
		}
	})
	return dev, file
}

// image makes an image of n random bytes.
func image(t *testing.T, n int) (*os.File, []byte) {
	t.Helper()
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	if _, err := rng.Read(b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, b
}

func inspect(t *testing.T, path string) flash.Device {
	t.Helper()
	d, err := flash.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestStick writes an image to the removable disk that KDHT_STICK names, and loses what is on it. TestFlash of package image/kernels
// runs it in a guest that has one.
func TestStick(t *testing.T) {
	path := os.Getenv("KDHT_STICK")
	if path == "" {
		t.Skip("no disk that may be overwritten: KDHT_STICK names none")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // until the kernel has found it
		if b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), "size")); err == nil && string(b) != "0\n" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%s: %q, %v", path, b, err)
		}
	}
	d := inspect(t, path)
	if !d.Removable || d.Bus != "usb" || d.Size != 48<<20 || d.Describe() != "QEMU QEMU HARDDISK, usb, 0.1 GB" {
		t.Errorf("%+v, %s", d, d.Describe())
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, bytes.Repeat([]byte("a stick "), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := d.Check(8<<20, false); err != nil {
		t.Error(err)
	}
	if err := flash.Write(t.Context(), d, img, func(string, int64, int64) {}); err != nil {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	dev, file := loop(t)
	img, want := image(t, 33<<20+512)
	d := inspect(t, dev)
	if !d.Removable || d.Bus != "loop" || d.Size != size {
		t.Errorf("device %+v", d)
	}
	if err := d.Check(int64(len(want)), false); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	err := flash.Write(t.Context(), d, img, func(_ string, done, all int64) {
		if done <= last || all != int64(2*len(want)) {
			t.Errorf("progress %d after %d of %d", done, last, all)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != int64(2*len(want)) {
		t.Errorf("progress ended at %d", last)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:len(want)], want) || !bytes.Equal(got[len(want):], make([]byte, size-len(want))) {
		t.Error("the disk does not hold the image")
	}
}

// TestWriteToLiar writes to a disk that changes what it was given.
func TestWriteToLiar(t *testing.T) {
	dev, file := loop(t)
	img, want := image(t, 8<<20)
	medium, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer medium.Close()
	err = flash.Write(t.Context(), inspect(t, dev), img, func(verb string, done, _ int64) {
		if done == int64(len(want)) { // about to read back
			if _, err := medium.WriteAt([]byte{^want[5<<20]}, 5<<20); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, flash.ErrVerify) || !strings.Contains(err.Error(), "between 4 and 8 MiB") {
		t.Errorf("error %v, want %v and the place", err, flash.ErrVerify)
	}
}

func TestRefuses(t *testing.T) {
	dev, _ := loop(t)
	if err := inspect(t, dev).Check(size+1, true); !errors.Is(err, flash.ErrTooSmall) {
		t.Errorf("too large an image: %v", err)
	}
	fixed := inspect(t, dev)
	fixed.Removable = false
	if err := fixed.Check(1, false); !errors.Is(err, flash.ErrFixed) {
		t.Errorf("built in: %v", err)
	}
	if err := fixed.Check(1, true); err != nil {
		t.Errorf("built in, forced: %v", err)
	}
	for _, path := range []string{"/dev/null", os.TempDir()} {
		if _, err := flash.Inspect(path); !errors.Is(err, flash.ErrNotDisk) {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	img, _ := image(t, 4096)
	if err := flash.Write(ctx, inspect(t, dev), img, func(string, int64, int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestRefusesMounted mounts a file system of the disk.
func TestRefusesMounted(t *testing.T) {
	dev, _ := loop(t)
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ext4.Format(f, ext4.Options{Size: size, Label: "x", Time: time.Unix(1, 0)}), f.Close()); err != nil {
		t.Fatal(err)
	}
	d := inspect(t, dev) // before
	dir := t.TempDir()
	if err := unix.Mount(dev, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	err = inspect(t, dev).Check(1, true)
	if !errors.Is(err, flash.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("mounted: %v, want %v with %s", err, flash.ErrInUse, dir)
	}
	img, _ := image(t, 4096)
	if err := flash.Write(t.Context(), d, img, func(string, int64, int64) {}); !errors.Is(err, flash.ErrInUse) {
		t.Errorf("mounted since it was looked at: %v", err)
	}
}
