package linklocal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kdht/appliance/link"
)

// Times of RFC 3927, section 9.
const (
	probeWait        = time.Second
	probeNum         = 3
	probeMin         = time.Second
	probeMax         = 2 * time.Second
	announceWait     = 2 * time.Second
	announceNum      = 2
	announceInterval = 2 * time.Second
	maxConflicts     = 10
	rateLimit        = time.Minute
	defendInterval   = 10 * time.Second
)

// Candidate is the nth address that an interface tries: 169.254.1.0 to 169.254.254.255, the same ones at every start, so that
// boxes keep their addresses.
func Candidate(mac [6]byte, n int) netip.Addr {
	var seed [32]byte
	copy(seed[:], mac[:])
	rng := rand.New(rand.NewChaCha8(seed))
	x := uint16(0)
	for range n + 1 {
		x = uint16(0x0100 + rng.IntN(0xff00-0x0100))
	}
	return netip.AddrFrom4([4]byte{169, 254, byte(x >> 8), byte(x)})
}

// claim has an interface have an address of its own until ctx ends.
func (t *Task) claim(ctx context.Context, l link.Link) error {
	s, err := listen(l.Index)
	if err != nil {
		return err
	}
	defer s.close()
	for n := 0; ; n++ {
		if n > maxConflicts {
			if _, err := s.hear(ctx, rateLimit, func(packet) bool { return false }); err != nil {
				return err
			}
		}
		a := Candidate(l.MAC, n)
		taken, err := probe(ctx, s, l.MAC, a)
		if err != nil {
			return err
		}
		if taken {
			t.log.Info("a link-local address is taken", "interface", l.Name, "address", a)
			continue
		}
		if err := t.hold(ctx, s, l, a); err != nil {
			return err
		}
		t.log.Warn("another machine uses this link-local address: it is given up", "interface", l.Name, "address", a)
	}
}

// probe asks whether somebody has an address (section 2.2.1).
func probe(ctx context.Context, s *socket, mac [6]byte, a netip.Addr) (taken bool, err error) {
	conflict := func(p packet) bool {
		return p.mac != mac && (p.sender == a || p.request && p.asked == a && p.sender.IsUnspecified())
	}
	pause := rand.N(probeWait)
	for i := range probeNum + 1 {
		if taken, err := s.hear(ctx, pause, conflict); taken || err != nil {
			return taken, err
		}
		if i == probeNum {
			return false, nil
		}
		if err := s.send(packet{request: true, mac: mac, sender: netip.IPv4Unspecified(), asked: a}); err != nil {
			return false, err
		}
		if pause = probeMin + rand.N(probeMax-probeMin); i == probeNum-1 {
			pause = announceWait
		}
	}
	return false, nil
}

// hold has an address, announces and defends it (sections 2.4 and 2.5), until it must be given up or ctx ends.
func (t *Task) hold(ctx context.Context, s *socket, l link.Link, a netip.Addr) (err error) {
	if err := change(unix.RTM_NEWADDR, l.Index, a); err != nil {
		return fmt.Errorf("add %s: %w", a, err)
	}
	defer func() {
		if errDel := change(unix.RTM_DELADDR, l.Index, a); errDel != nil && !errors.Is(errDel, unix.EADDRNOTAVAIL) && !errors.Is(errDel, unix.ENODEV) {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", a, errDel))
		}
	}()
	t.log.Info("no DHCP server has given an address, so there is a link-local one", "interface", l.Name, "address", a)
	var defended time.Time
	conflict := func(p packet) bool { return p.sender == a && p.mac != l.MAC }
	announce := packet{request: true, mac: l.MAC, sender: a, asked: a}
	left := announceNum
	for {
		wait := time.Hour
		if left > 0 {
			if err := s.send(announce); err != nil {
				return err
			}
			left, wait = left-1, announceInterval
		}
		taken, err := s.hear(ctx, wait, conflict)
		if err != nil {
			return err
		}
		if taken {
			if now := time.Now(); !defended.IsZero() && now.Sub(defended) < defendInterval {
				return nil
			} else {
				defended, left = now, 1
			}
		}
	}
}

// change adds an address to an interface, or removes it.
func change(what netlink.HeaderType, index int, a netip.Addr) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	ae := netlink.NewAttributeEncoder()
	b := a.As4()
	ae.Bytes(unix.IFA_LOCAL, b[:])
	ae.Bytes(unix.IFA_ADDRESS, b[:])
	ae.Bytes(unix.IFA_BROADCAST, []byte{169, 254, 255, 255})
	attrs, err := ae.Encode()
	if err != nil {
		return err
	}
	head := []byte{unix.AF_INET, 16, 0, unix.RT_SCOPE_LINK, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	flags := netlink.Request | netlink.Acknowledge
	if what == unix.RTM_NEWADDR {
		flags |= netlink.Create | netlink.Replace
	}
	_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: what, Flags: flags}, Data: append(head, attrs...)})
	return err
}
