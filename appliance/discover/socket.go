package discover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"kdht/router"
)

// port is that of multicast DNS (RFC 6762).
const port = 5353

// Multicast groups of mDNS, by router.Family.
var groups = [2]netip.Addr{netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("ff02::fb")}

// maxMessage is the largest message of mDNS, in bytes (RFC 6762, section 17).
const maxMessage = 9000

// packet is a datagram as it was received.
type packet struct {
	socket *socket
	from   netip.AddrPort
	data   []byte
	err    error // instead: the socket is of no use any more
}

// socket is one of mDNS in one family on one interface.
type socket struct {
	family router.Family
	index  int // of the interface
	conn   *net.UDPConn
	group  netip.AddrPort
}

// openSocket opens a socket that hears what is sent to the group on an interface, beside whatever else listens there.
func openSocket(f router.Family, index int, name string) (*socket, error) {
	domain := unix.AF_INET
	if f == router.IPv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for mDNS: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mdns")
	defer file.Close() // FilePacketConn makes another descriptor
	bind := bind4
	if f == router.IPv6 {
		bind = bind6
	}
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // other responders of this host
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), // those that only set this
		unix.BindToDevice(fd, name),
		bind(fd, index),
	} {
		if err != nil {
			return nil, fmt.Errorf("open a socket for mDNS: %w", err)
		}
	}
	pc, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("open a socket for mDNS: %w", err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("mDNS: %T is no UDP socket", pc), pc.Close())
	}
	group := groups[f]
	if f == router.IPv6 {
		group = group.WithZone(strconv.Itoa(index)) // names change
	}
	return &socket{family: f, index: index, conn: conn, group: netip.AddrPortFrom(group, port)}, nil
}

func bind4(fd, index int) error {
	group := groups[router.IPv4].As4()
	m := &unix.IPMreqn{Multiaddr: group, Ifindex: int32(index)}
	return errors.Join(
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255), // RFC 6762, section 11
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1), // to other nodes on this host
		unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: group}),
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, m),
	)
}

func bind6(fd, index int) error {
	group := groups[router.IPv6].As16()
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 1),
		unix.Bind(fd, &unix.SockaddrInet6{Port: port, Addr: group, ZoneId: uint32(index)}),
		unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group, Interface: uint32(index)}),
	)
}

// read gives packets to a channel until the socket is closed or fails, or over is closed.
func (s *socket) read(packets chan<- packet, over <-chan struct{}) {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p := packet{socket: s, err: err}
		if err == nil {
			p.from, p.data = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), append([]byte(nil), buf[:n]...)
		}
		select {
		case packets <- p:
		case <-over:
			return
		}
		if err != nil {
			return
		}
	}
}

// send sends a message to the group, or to one host.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	if !to.IsValid() {
		to = s.group
	}
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}
