package conformance_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"kdht/router/krpc"
)

// tap sends frames to a node as they are, and sees everything that the node sends.
type tap struct {
	r     *rig
	f     *os.File
	marks int
	buf   [1 << 16]byte
}

func (r *rig) tap(t *testing.T) *tap {
	t.Helper()
	p := &tap{r: r}
	must(t, r.peer.Do(func() error {
		dev, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		p.f = os.NewFile(uintptr(fd), "packet socket")
		// The metrics that are asked for between the exchanges come by here, too, and must not take the room of answers.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer); err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index})
	}))
	t.Cleanup(func() { _ = p.f.Close() })
	return p
}

// tapBuffer is room for all that comes by between two exchanges, in bytes.
const tapBuffer = 32 << 20

// seen is a datagram that the node sent.
type seen struct {
	from, to netip.AddrPort
	payload  []byte
}

// next returns the next UDP datagram from the node that is no query.
func (p *tap) next(deadline time.Time) (seen, error) {
	if err := p.f.SetReadDeadline(deadline); err != nil {
		return seen{}, err
	}
	node, _ := net.ParseMAC(nodeMAC)
	for {
		n, err := p.f.Read(p.buf[:])
		if err != nil {
			return seen{}, err
		}
		if n < 14 || !bytes.Equal(p.buf[6:12], node) {
			continue // our own
		}
		packet := gopacket.NewPacket(append([]byte(nil), p.buf[:n]...), layers.LayerTypeEthernet, gopacket.Default)
		udp, ok := packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			continue
		}
		src, dst := packet.NetworkLayer().NetworkFlow().Endpoints()
		s := seen{addrPort(src.Raw(), udp.SrcPort), addrPort(dst.Raw(), udp.DstPort), udp.Payload}
		var m krpc.Message
		if err := krpc.Decode(s.payload, &m); err != nil {
			return s, fmt.Errorf("the node sent %q: %w", s.payload, err)
		}
		if m.Type != krpc.TypeQuery {
			return s, nil
		}
	}
}

func addrPort(addr []byte, port layers.UDPPort) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, uint16(port))
}

// exchange sends frames and returns what the node answers. It waits for as many answers as are wanted, and for that
// to a mark, which is sent last and goes through user space.
func (p *tap) exchange(to netip.AddrPort, want int, frames ...[]byte) (answers []seen, err error) {
	p.marks++
	tid := fmt.Sprintf("tap%d", p.marks)
	from := netip.AddrPortFrom(clientFor(to), clientPort)
	for _, f := range append(frames, newFrame(from, to, mark(tid)).bytes()) {
		if _, err := p.f.Write(f); err != nil {
			return nil, fmt.Errorf("frame of %d bytes: %w", len(f), err)
		}
	}
	deadline := time.Now().Add(patience)
	for marked := false; !marked || len(answers) < want; {
		s, err := p.next(deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) && marked {
			return answers, nil // fewer than wanted
		}
		if err != nil {
			return answers, err
		}
		var m krpc.Message
		if krpc.Decode(s.payload, &m) == nil && string(m.TID) == tid {
			marked = true
			continue
		}
		answers = append(answers, s)
	}
	return answers, nil
}
