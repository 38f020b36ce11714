//go:build linux

package disktest

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Partition makes partition 4 of a loop device known to a kernel that was built without
// support for the table, as the table says: start and length in bytes. One that the
// kernel found by itself is left alone.
func Partition(t testing.TB, device string, start, length int64) {
	t.Helper()
	if _, err := os.Stat(device + "p4"); err == nil {
		return
	}
	part := &struct {
		start, length int64
		number        int32
		_             [132]byte
	}{start: start, length: length, number: 4}
	arg := struct {
		op, flags, size, _ int32
		data               unsafe.Pointer
	}{op: 1, size: int32(unsafe.Sizeof(*part)), data: unsafe.Pointer(part)} // BLKPG_ADD_PARTITION
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), 0x1269, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		t.Fatal(fmt.Errorf("add partition 4 to %s: %w", device, errno))
	}
}
