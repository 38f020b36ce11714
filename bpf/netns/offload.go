package netns

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FullChecksums makes whatever leaves through an interface carry complete checksums, as on a real wire (ethtool -K NAME
// tx off). A veth pair otherwise hands over the packets of local sockets with the pseudo-header's sum alone.
func FullChecksums(ns *NS, ifname string) error {
	return setOffload(ns, ifname, "checksum offload off", unix.ETHTOOL_STXCSUM, 0)
}

// ReceiveOffload switches generic receive offload on (ethtool -K NAME gro on): a veth then has NAPI whatever XDP program
// is attached.
func ReceiveOffload(ns *NS, ifname string) error {
	return setOffload(ns, ifname, "generic receive offload on", unix.ETHTOOL_SGRO, 1)
}

// setOffload sets one of an interface's offloads (SIOCETHTOOL); what is the change in words.
func setOffload(ns *NS, ifname, what string, cmd, data uint32) error {
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("netns %s: %w", ns.name, err)
		}
		defer unix.Close(fd) //nolint:errcheck // a descriptor of our own
		value := struct{ cmd, data uint32 }{cmd, data}
		var req struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}
		copy(req.name[:unix.IFNAMSIZ-1], ifname)
		req.data = unsafe.Pointer(&value)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
			return fmt.Errorf("netns %s: switch %s for %s: %w", ns.name, what, ifname, errno)
		}
		return nil
	})
}
