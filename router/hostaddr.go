package router

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Addresses of a root name server, to which a host would take its default route. Nothing is sent there.
var faraway = [2]string{IPv4: "199.7.83.42:53", IPv6: "[2001:500:9f::42]:53"}

// preferPublic asks for the stable source address of an interface, not a temporary one (RFC 5014, RFC 8981). A node
// that changed its address every day would be forgotten every day.
const preferPublic = 0x2 // IPV6_PREFER_SRC_PUBLIC

// HostAddr returns the address of this host from which datagrams for the rest of the world leave; the zero Addr if there
// is none. It asks the network stack, and sends nothing.
func HostAddr(f Family) netip.Addr {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			if f == IPv6 {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, preferPublic) // a wish
			}
		})
	}}
	c, err := d.Dial("udp", faraway[f])
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// hostAddr returns the host's own address that a socket sends from: the one it is bound to, or, in the public network, the
// network stack's choice. A private network need not be where the default route leads.
func (n *Node) hostAddr(s *socket) netip.Addr {
	if a := s.conn.LocalAddr().Addr(); !a.IsUnspecified() {
		return a
	}
	if n.config.Private {
		return netip.Addr{}
	}
	return HostAddr(s.family)
}
