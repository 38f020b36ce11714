package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/router"
	"kdht/router/krpc"
)

// ProbeEvery is how often a node is asked by itself.
const ProbeEvery = 15 * time.Second

const (
	probePatience = 2 * time.Second
	probeTries    = 2 // a flood may fill the socket's queue for a moment
)

// Errors of a query to our own socket.
var (
	errSilent = fmt.Errorf("no answer within %s", probePatience)
	errOdd    = errors.New("an odd answer")
)

// Prober asks a node on this machine whether it answers. It is for one goroutine.
type Prober struct {
	sockets []probeSocket
	sent    uint16
}

type probeSocket struct {
	to   netip.AddrPort
	conn net.Conn // nil while there is none
}

// NewProber returns a prober of a node that listens on these addresses. Its sockets belong to the network namespace of the
// calling thread.
func NewProber(listen []netip.AddrPort) *Prober {
	p := &Prober{}
	for _, a := range listen {
		s := probeSocket{to: reachable(a)}
		s.conn, _ = net.Dial("udp", s.to.String()) // Ask tries again, and has the error
		p.sockets = append(p.sockets, s)
	}
	return p
}

// Close closes the sockets.
func (p *Prober) Close() error {
	var errs []error
	for i := range p.sockets {
		errs = append(errs, p.sockets[i].close())
	}
	return errors.Join(errs...)
}

// Ask sends a ping (BEP 5) to each of the node's addresses, over the loopback interface where it listens on all, and says
// what came of it. That is user space: the kernel half is not attached to the loopback interface.
func (p *Prober) Ask(ctx context.Context) Probe {
	begin := time.Now()
	r := Probe{None: true}
	var bad []string
	for i := range p.sockets {
		s := &p.sockets[i]
		err := errSilent
		for n := 0; n < probeTries && errors.Is(err, errSilent) && ctx.Err() == nil; n++ {
			p.sent++
			err = s.ping(ctx, p.sent)
		}
		switch {
		case err == nil:
			r.Some, r.None = true, false
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
			// It is this machine that cannot ask.
			_ = s.close()
		default:
			r.None = false
			bad = append(bad, fmt.Sprintf("%s: %v", s.to, err))
			_ = s.close()
		}
	}
	r.Error = strings.Join(bad, "; ")
	r.At = time.Now()
	r.Took = r.At.Sub(begin)
	return r
}

// Ask asks once.
func Ask(ctx context.Context, listen []netip.AddrPort) Probe {
	p := NewProber(listen)
	defer p.Close()
	return p.Ask(ctx)
}

// Err is nil if the node has answered somewhere.
func (p Probe) Err() error {
	switch {
	case p.Some:
		return nil
	case p.Error != "":
		return errors.New(p.Error)
	}
	return errors.New("no address of the node can be asked from this machine")
}

// reachable is where this machine reaches what listens on an address.
func reachable(a netip.AddrPort) netip.AddrPort {
	switch {
	case !a.Addr().IsUnspecified():
		return a
	case a.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
}

func (s *probeSocket) close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// ping sends one ping and waits for its response. It is read-only (BEP 43): nobody is to take this socket for a node.
func (s *probeSocket) ping(ctx context.Context, number uint16) (err error) {
	if s.conn == nil {
		if s.conn, err = net.Dial("udp", s.to.String()); err != nil {
			return err
		}
	}
	if err := s.conn.SetDeadline(time.Now().Add(probePatience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := []byte{'h', byte(number >> 8), byte(number)}
	if _, err := fmt.Fprintf(s.conn, "d1:ad2:id20:%se1:q4:ping2:roi1e1:t%d:%s1:y1:qe", router.ProbeID[:], len(id), id); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, err := s.conn.Read(buf)
		var e net.Error
		if errors.As(err, &e) && e.Timeout() {
			return errSilent
		}
		if err != nil {
			return err
		}
		var m krpc.Message
		if err := krpc.Decode(buf[:n], &m); err != nil {
			return fmt.Errorf("%w: %q", errOdd, buf[:n])
		}
		if string(m.TID) != string(id) {
			continue // that of an earlier one
		}
		if m.Type != krpc.TypeResponse {
			return fmt.Errorf("%w: %q", errOdd, buf[:n])
		}
		return nil
	}
}
