package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketBuffer is how much the kernel may queue for us in either direction, where it lets us choose.
	socketBuffer = 4 << 20
	// bindPatience is how long Listen waits for a port that is in use.
	bindPatience = 2 * time.Second
)

// udpConn is a [Conn] on a UDP socket. It moves many datagrams per system call and allocates nothing.
type udpConn struct {
	conn  *net.UDPConn
	raw   syscall.RawConn
	local netip.AddrPort
	v6    bool
	// many says that the socket is bound to all addresses of the host, so that datagrams carry the one they are for.
	many bool

	in     *msgBatch
	inErr  error
	inDone int
	recv   func(fd uintptr) bool
	out    sync.Pool
}

func listen(ctx context.Context, addrs []netip.AddrPort) ([]Conn, error) {
	var conns []Conn
	for _, a := range addrs {
		c, err := listenUDP(ctx, a)
		if err != nil {
			for _, c := range conns {
				_ = c.Close() // the error of interest is err
			}
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func listenUDP(ctx context.Context, a netip.AddrPort) (*udpConn, error) {
	network := "udp6"
	if FamilyOf(a.Addr()) == IPv4 {
		network = "udp4"
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	ctx, cancel := context.WithTimeout(ctx, bindPatience)
	defer cancel()
	for {
		pc, err := (&net.ListenConfig{}).ListenPacket(ctx, network, a.String())
		switch {
		case err == nil:
			conn, ok := pc.(*net.UDPConn)
			if !ok {
				return nil, fmt.Errorf("router: %T is no UDP socket", pc)
			}
			return newUDPConn(conn, network == "udp6")
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EADDRNOTAVAIL) && a.Addr().Is6() && a.Addr().IsUnspecified():
			return nil, fmt.Errorf("%w: %w", ErrFamilyUnavailable, err)
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, fmt.Errorf("router: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("router: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func newUDPConn(conn *net.UDPConn, v6 bool) (*udpConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if !v6 {
		local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	}
	c := &udpConn{conn: conn, raw: raw, local: local, v6: v6, many: local.Addr().IsUnspecified()}
	var optErr error
	if err := raw.Control(func(fd uintptr) { optErr = c.setOptions(int(fd)) }); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if optErr != nil {
		_ = conn.Close() // the error of interest is optErr
		return nil, fmt.Errorf("router: socket options: %w", optErr)
	}
	c.out.New = func() any { return newSender(c) }
	c.in = newMsgBatch(c.many)
	c.recv = func(fd uintptr) bool {
		c.inDone, c.inErr = c.in.receive(fd)
		return !errors.Is(c.inErr, unix.EAGAIN)
	}
	return c, nil
}

func (c *udpConn) setOptions(fd int) error {
	// A big buffer rides out a burst. Beyond rmem_max only the privileged may go.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	// Package net allows broadcasts. A forged source must not make us send one.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 0); err != nil {
		return err
	}
	if c.v6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, preferPublic) // a wish
	}
	// Values of BEP 44 may exceed a path's MTU; KRPC has no way to send them again in smaller pieces.
	level, discover, info := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PKTINFO
	if c.v6 {
		level, discover, info = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVPKTINFO
	}
	if err := unix.SetsockoptInt(fd, level, discover, unix.IP_PMTUDISC_DONT); err != nil {
		return err
	}
	if !c.many {
		return nil
	}
	return unix.SetsockoptInt(fd, level, info, 1)
}

// ReadBatch implements [Conn].
func (c *udpConn) ReadBatch(ps []Packet) (int, error) {
	ps = ps[:min(len(ps), batchSize)]
	c.in.point(ps)
	if err := c.raw.Read(c.recv); err != nil {
		return 0, fmt.Errorf("router: %w", err)
	}
	if c.inErr != nil {
		return 0, fmt.Errorf("router: recvmmsg: %w", c.inErr)
	}
	for i := range ps[:c.inDone] {
		c.in.fill(i, &ps[i])
	}
	return c.inDone, nil
}

// WriteBatch implements [Conn].
func (c *udpConn) WriteBatch(ps []Packet) (sent int, first error) {
	s := c.out.Get().(*sender)
	defer c.out.Put(s)
	for len(ps) > 0 {
		n, err := s.send(ps[:min(len(ps), batchSize)])
		sent += n
		ps = ps[n:]
		if err != nil {
			if first == nil {
				first = fmt.Errorf("router: sendmmsg: %w", err)
			}
			if errors.Is(err, net.ErrClosed) || len(ps) == 0 {
				return sent, first
			}
			ps = ps[1:] // the one that cannot be sent
		}
	}
	return sent, first
}

// LocalAddr implements [Conn].
func (c *udpConn) LocalAddr() netip.AddrPort { return c.local }

// Close implements [Conn].
func (c *udpConn) Close() error { return c.conn.Close() }
