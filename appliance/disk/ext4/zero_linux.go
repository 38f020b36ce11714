package ext4

import (
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroFast has the kernel do it: a hole in a file, a command to a block device. It
// reports whether that was possible.
func zeroFast(w io.WriterAt, off, n int64) (bool, error) {
	f, ok := w.(*os.File)
	if !ok {
		return false, nil
	}
	info, err := f.Stat()
	if err != nil {
		return true, err
	}
	if info.Mode().IsRegular() {
		if off+n > info.Size() {
			return false, nil
		}
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		return err == nil, nil
	}
	span := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	return errno == 0, nil
}
