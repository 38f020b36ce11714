package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers from linux/blkpg.h and fs/ext4/ext4.h that x/sys does not have.
const (
	blkpg                = 0x1269
	blkpgResizePartition = 3
	ext4IocResizeFS      = 0x40086610 // _IOW('f', 16, __u64)
)

type blkpgPartition struct {
	start, length int64
	number        int32
	names         [128]byte
	_             int32
}

type blkpgArg struct {
	op, flags, length int32
	_                 int32
	data              unsafe.Pointer
}

// resizePartition tells the kernel of a partition's new size, in bytes; it may be in use.
func resizePartition(disk *os.File, number int, start, length int64) error {
	part := &blkpgPartition{start: start, length: length, number: int32(number)}
	arg := blkpgArg{op: blkpgResizePartition, length: int32(unsafe.Sizeof(*part)), data: unsafe.Pointer(part)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("tell the kernel of the new size of partition %d: %w", number, errno)
	}
	return nil
}

// resizeFS grows the mounted ext4 file system at path to a number of blocks.
func resizeFS(path string, blocks uint64) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4IocResizeFS, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("grow the file system: %w", errno)
	}
	return nil
}

// deviceSize is the size of a block device in bytes.
func deviceSize(f *os.File) (int64, error) {
	var n uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), errno)
	}
	return int64(n), nil
}

// dropCache makes the kernel forget what it has read of a block device that is not mounted.
func dropCache(f *os.File) error {
	return unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)
}

// notedErrors counts the errors of a mounted ext4 file system that the kernel knows of.
func notedErrors(partition string) int {
	b, err := os.ReadFile(filepath.Join("/sys/fs/ext4", filepath.Base(partition), "errors_count"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
