package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Volume is the boot partition: a small file system that the owner can write to on any machine.
type Volume interface {
	// Use calls f with the directory at which the files are. What f has written is on stable storage when Use has
	// returned nil. The directory is gone afterwards, and f must not leave its goroutine.
	Use(writable bool, f func(dir string) error) error
}

// FAT is a volume with a FAT file system. It is mounted only while it is used, and only for the thread that uses it,
// so that it is unmounted whatever becomes of the process.
type FAT struct {
	Device string // as in /dev/sda1
}

// Use implements [Volume].
func (v FAT) Use(writable bool, f func(dir string) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its mount namespace with it
		done <- v.use(writable, f)
	}()
	return <-done
}

func (v FAT) use(writable bool, f func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_RDONLY)
	if writable {
		flags = flags&^unix.MS_RDONLY | unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC
	}
	if err := unix.Mount(v.Device, dir, "vfat", flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", v.Device, err)
	}
	defer func() {
		if errUnmount := unix.Unmount(dir, 0); errUnmount != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", v.Device, errUnmount))
		}
	}()
	return f(dir)
}

// bootPartition finds the device of the first partition of the disk that the root file system is on. The kernel's
// command line is not asked: during the trial of an update it names another root than the one that is mounted.
func bootPartition(root, sys string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return "", fmt.Errorf("%s: %w", root, err)
	}
	link := filepath.Join(sys, "dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	partition, err := filepath.EvalSymlinks(link)
	if err != nil {
		return "", fmt.Errorf("the root file system is on no disk: %w", err)
	}
	if _, err := os.Stat(filepath.Join(partition, "partition")); err != nil {
		return "", fmt.Errorf("the root file system is on no partition: %w", err)
	}
	siblings, err := filepath.Glob(filepath.Join(filepath.Dir(partition), "*/partition"))
	if err != nil {
		return "", err
	}
	for _, s := range siblings {
		if number, err := os.ReadFile(s); err == nil && strings.TrimSpace(string(number)) == "1" {
			return "/dev/" + filepath.Base(filepath.Dir(s)), nil
		}
	}
	return "", fmt.Errorf("%s has no partition 1", filepath.Base(filepath.Dir(partition)))
}
