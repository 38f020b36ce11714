package link

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// driver asks ethtool for the name of an interface's driver. Loopback and some tunnels have none.
func driver(fd int, name string) string {
	if len(name) >= unix.IFNAMSIZ {
		return ""
	}
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// stripsTags asks ethtool whether an interface takes VLAN tags off the frames that it receives.
func stripsTags(fd int, name string) bool {
	const rxVLAN = 1 << 8 // ETH_FLAG_RXVLAN
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GFLAGS}
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	if copy(request.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return false
	}
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	return errno == 0 && value.data&rxVLAN != 0
}
