package box

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Volume is the boot partition: a small file system that the owner can write to on any machine.
type Volume interface {
	// Use calls f with the directory at which the files are. What f has written is on stable storage when Use has
	// returned nil. The directory is gone afterwards, and f must not leave its goroutine.
	Use(writable bool, f func(dir string) error) error
}

// busyPatience is how long to wait for others who use the device, as whoever looks after updates does for moments.
const busyPatience = 5 * time.Second

// FAT is a volume with a FAT file system. It is mounted only while it is used, and only for the thread that uses it,
// so that it is unmounted whatever becomes of the process.
type FAT struct {
	Device string // as in /dev/sda1
}

// ID tells where on the device the file system in force begins: one with another kernel lies elsewhere (bootdisk).
func (v FAT) ID() string {
	f, err := os.Open(v.Device)
	if err != nil {
		return ""
	}
	defer f.Close()
	var b [16]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return ""
	}
	return strconv.Itoa(int(binary.LittleEndian.Uint16(b[14:]))) // reserved sectors
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
	for deadline := time.Now().Add(busyPatience); ; time.Sleep(busyPatience / 100) {
		err := unix.Mount(v.Device, dir, "vfat", flags, "")
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("mount %s: %w", v.Device, err)
		}
	}
	defer func() {
		if errUnmount := unix.Unmount(dir, 0); errUnmount != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", v.Device, errUnmount))
		}
	}()
	return f(dir)
}
