package linklocal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// packet is an ARP packet (RFC 826) of Ethernet and IPv4.
type packet struct {
	request       bool
	mac           [6]byte // of the sender
	sender, asked netip.Addr
}

const arpSize = 28 // bytes

// encode composes the packet.
func (p packet) encode() []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2} // Ethernet, IPv4, their lengths, reply
	if p.request {
		b[7] = 1
	}
	b = append(b, p.mac[:]...)
	s, a := p.sender.As4(), p.asked.As4()
	b = append(b, s[:]...)
	b = append(b, make([]byte, 6)...)
	return append(b, a[:]...)
}

// decode reads a packet; false if it is another kind.
func decode(b []byte) (p packet, ok bool) {
	if len(b) < arpSize || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return p, false
	}
	op := binary.BigEndian.Uint16(b[6:])
	p = packet{request: op == 1, mac: [6]byte(b[8:14]), sender: netip.AddrFrom4([4]byte(b[14:18])), asked: netip.AddrFrom4([4]byte(b[24:28]))}
	return p, op == 1 || op == 2
}

// socket sends and receives ARP packets at one interface.
type socket struct {
	file  *os.File
	index int
}

func listen(index int) (*socket, error) {
	proto := int(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: index}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return &socket{file: os.NewFile(uintptr(fd), "arp"), index: index}, nil
}

func (s *socket) close() error { return s.file.Close() }

// send broadcasts a packet.
func (s *socket) send(p packet) error {
	c, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{
		Protocol: binary.NativeEndian.Uint16([]byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff}), Ifindex: s.index,
		Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	var sent error
	err = c.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), p.encode(), 0, to)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, sent)
}

// hear gives packets to f until that says that it is enough, the time is up, or ctx ends; true in the first case.
func (s *socket) hear(ctx context.Context, d time.Duration, f func(packet) bool) (bool, error) {
	if err := s.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })()
	b := make([]byte, 128)
	for {
		n, err := s.file.Read(b)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case errors.Is(err, unix.ENETDOWN): // it says so once; the carrier will be missed
			continue
		case err != nil:
			return false, err
		}
		if p, ok := decode(b[:n]); ok && f(p) {
			return true, nil
		}
	}
}
