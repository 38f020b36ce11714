//go:build linux

package disktest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/bpf/testenv"
)

// Loop attaches a file to a free loop device, whose partitions the kernel then scans,
// and gives its path. It is detached when the test ends.
func Loop(t testing.TB, file string) string {
	t.Helper()
	testenv.NeedRoot(t)
	device, err := attach(file)
	if err != nil {
		t.Fatalf("loop device for %s: %v", file, err)
	}
	t.Cleanup(func() {
		f, err := os.Open(device)
		if err != nil {
			t.Errorf("detach: %v", err)
			return
		}
		defer f.Close()
		if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Errorf("detach %s: %v", device, err)
		}
	})
	return device
}

func attach(file string) (string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", err
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_PARTSCAN}}
		err = unix.IoctlLoopConfigure(int(f.Fd()), &config)
		f.Close()
		if errors.Is(err, unix.EBUSY) { // another test was faster
			continue
		}
		return device, err
	}
}

// OwnMounts runs fn on a thread with a mount namespace of its own, so that what it
// mounts is seen by nobody else and goes away with it. fn must not start goroutines
// that use the mounts; child processes do see them.
func OwnMounts(t testing.TB, fn func() error) {
	t.Helper()
	testenv.NeedRoot(t)
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }() // also when fn ends the test
		runtime.LockOSThread()         // never unlocked: the thread ends with the goroutine
		err = unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = fn()
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
