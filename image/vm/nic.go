package vm

import (
	"fmt"
	"net"
	"strings"
)

// NIC is a virtio network card.
type NIC struct {
	// MAC is its address; empty means one that QEMU chooses, the same for every machine.
	MAC string

	backend string
	queues  int
	lan     *LAN
}

// Forward is a port of this machine that leads to one of the guest.
type Forward struct {
	Network     string // "tcp" or "udp"
	Host, Guest int    // ports; the host's is of address 127.0.0.1
}

// User is a card on a network that QEMU plays: it has a DHCP server and reaches out through this machine's sockets. Other
// machines cannot reach the guest, except through the given ports. It has one queue only.
func User(forward ...Forward) NIC {
	var b strings.Builder
	b.WriteString("user")
	for _, f := range forward {
		fmt.Fprintf(&b, ",hostfwd=%s:127.0.0.1:%d-:%d", f.Network, f.Host, f.Guest)
	}
	return NIC{backend: b.String(), queues: 1}
}

// FreePort returns a TCP port of 127.0.0.1 that nothing listens on at the moment.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
