package router

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is the most datagrams moved by one system call.
const batchSize = 64

// controlSize has room for one cmsghdr with an in6_pktinfo, the larger of the two kinds.
const controlSize = 40

// mmsghdr is the struct of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// msgBatch is the memory that the kernel fills or reads in one recvmmsg or sendmmsg.
type msgBatch struct {
	hdrs     [batchSize]mmsghdr
	iovs     [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // or RawSockaddrInet4, which is smaller
	controls [batchSize][controlSize]byte
	control  bool // ask for control messages
	n        int
}

func newMsgBatch(control bool) *msgBatch {
	b := &msgBatch{control: control}
	for i := range b.hdrs {
		h := &b.hdrs[i].hdr
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	}
	return b
}

// point makes the batch receive into packets.
func (b *msgBatch) point(ps []Packet) {
	b.n = len(ps)
	for i := range ps {
		d := ps[i].Data[:cap(ps[i].Data)]
		b.iovs[i].Base = unsafe.SliceData(d)
		b.iovs[i].SetLen(len(d))
		h := &b.hdrs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
		if b.control {
			h.Control = &b.controls[i][0]
			h.SetControllen(controlSize)
		}
	}
}

func (b *msgBatch) receive(fd uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(b.n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, unix.EAGAIN
		default:
			return 0, errno
		}
	}
}

// fill completes packet i with what was received.
func (b *msgBatch) fill(i int, p *Packet) {
	p.Data = p.Data[:b.hdrs[i].len]
	p.Addr = sockaddr(&b.names[i])
	p.Local, p.Group = netip.Addr{}, false
	if b.control {
		p.Local, p.Group = localFrom(b.controls[i][:min(int(b.hdrs[i].hdr.Controllen), controlSize)])
	}
}

// sockaddr reads what the kernel wrote as the source of a datagram.
func sockaddr(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), ntohs(sa.Port))
	}
	a := netip.AddrFrom16(name.Addr)
	if a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
	}
	return netip.AddrPortFrom(a, ntohs(name.Port))
}

// putSockaddr writes a destination and returns its length.
func putSockaddr(name *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	if a.Addr().Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(a.Port()), Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: ntohs(a.Port()), Addr: a.Addr().As16()}
	if z := a.Addr().Zone(); z != "" {
		scope, _ := strconv.ParseUint(z, 10, 32) // made by sockaddr; a name, which is never ours, becomes no scope
		name.Scope_id = uint32(scope)
	}
	return unix.SizeofSockaddrInet6
}

// ntohs changes between network and host byte order.
func ntohs(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// localFrom returns from a received pktinfo the local address for a reply to leave from, or that the datagram was sent
// to a group of hosts. In IPv4 the header's address, ipi_addr, then differs from ipi_spec_dst, which is one of ours.
func localFrom(control []byte) (local netip.Addr, group bool) {
	if len(control) < unix.SizeofCmsghdr {
		return netip.Addr{}, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
		local, to := netip.AddrFrom4(info.Spec_dst), netip.AddrFrom4(info.Addr)
		return local, to.IsMulticast() || to != local && !local.IsUnspecified()
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		a := netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr)
		return a, a.IsMulticast()
	}
	return netip.Addr{}, false
}

// putLocal writes the control message that makes a datagram leave from an address, and returns its length.
func putLocal(control *[controlSize]byte, a netip.Addr) int {
	*control = [controlSize]byte{}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := unsafe.Pointer(&control[unix.CmsgLen(0)])
	if a.Is4() {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		(*unix.Inet4Pktinfo)(data).Spec_dst = a.As4()
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	(*unix.Inet6Pktinfo)(data).Addr = a.As16()
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// sender is the state of one WriteBatch, kept for the next.
type sender struct {
	conn *udpConn
	out  *msgBatch
	n    int
	done int
	err  error
	call func(fd uintptr) bool
}

func newSender(c *udpConn) *sender {
	s := &sender{conn: c, out: newMsgBatch(c.many)}
	s.call = func(fd uintptr) bool {
		s.done, s.err = s.out.transmit(fd, s.n)
		return true // a full buffer is no reason to wait: the datagram is dropped, as on any full queue
	}
	return s
}

// send sends up to batchSize packets. The error is about the one after those that were sent.
func (s *sender) send(ps []Packet) (int, error) {
	for i := range ps {
		p := &ps[i]
		b := s.out
		b.iovs[i].Base = unsafe.SliceData(p.Data)
		b.iovs[i].SetLen(len(p.Data))
		h := &b.hdrs[i].hdr
		h.Namelen = putSockaddr(&b.names[i], p.Addr)
		h.Control = nil
		h.SetControllen(0)
		if b.control && p.Local.IsValid() && p.Local.Is4() == p.Addr.Addr().Is4() {
			h.SetControllen(putLocal(&b.controls[i], p.Local))
			h.Control = &b.controls[i][0]
		}
	}
	s.n, s.done, s.err = len(ps), 0, nil
	if err := s.conn.raw.Write(s.call); err != nil {
		return 0, err
	}
	return s.done, s.err
}

func (b *msgBatch) transmit(fd uintptr, n int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, errno
		default:
			return int(done), nil
		}
	}
}
