package conformance_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/router"
	"kdht/router/krpc"
)

const swarmPort = 6881

// swarm plays nodes, each at an address of its own: one socket of a family answers for all of them.
type swarm struct {
	conn  router.Conn
	to    netip.AddrPort // the node under test
	nodes []router.Contact
	index map[netip.Addr]*router.Contact
	asked sync.Map // addresses of those that got a query
}

// newSwarm makes nodes for the routing table of self: perBucket of them in each bucket of the first levels, counted by the
// number of leading bits shared with self, of which each is divided by so many bits more.
func (r *rig) newSwarm(t *testing.T, self krpc.ID, to netip.AddrPort, levels, divided, perBucket int) *swarm {
	t.Helper()
	s := &swarm{to: to, index: make(map[netip.Addr]*router.Contact)}
	rng := rand.New(rand.NewPCG(7, uint64(to.Addr().BitLen())))
	for b := range levels << divided {
		for range perBucket {
			id := idInBucket(rng, self, b>>divided, b&(1<<divided-1), divided)
			addr := netip.AddrPortFrom(swarmAddr(to.Addr().Is6(), len(s.nodes)+1), swarmPort)
			s.nodes = append(s.nodes, router.Contact{ID: id, Addr: addr})
		}
	}
	for i := range s.nodes {
		s.index[s.nodes[i].Addr.Addr()] = &s.nodes[i]
	}
	local := netip.AddrPortFrom(netip.IPv4Unspecified(), swarmPort)
	if to.Addr().Is6() {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), swarmPort)
	}
	must(t, r.peer.Do(func() error {
		conns, err := router.Listen(t.Context(), local)
		if err == nil {
			s.conn = conns[0]
		}
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	t.Cleanup(func() {
		_ = s.conn.Close()
		<-done
	})
	return s
}

// swarmAddr is the i-th address, each in an IPv4 /24 or IPv6 /64 of its own as long as there are enough of them.
func swarmAddr(v6 bool, i int) netip.Addr {
	if v6 {
		a := swarm6.Addr().As16()
		binary.BigEndian.PutUint16(a[6:], uint16(i))
		a[15] = 1
		return netip.AddrFrom16(a)
	}
	a := swarm4.Addr().As4()
	a[2], a[3] = byte(i), byte(1+i>>8)
	return netip.AddrFrom4(a)
}

// idInBucket returns an ID that shares exactly level leading bits with self, and has a number in the next bits.
func idInBucket(rng *rand.Rand, self krpc.ID, level, number, bits int) krpc.ID {
	var id krpc.ID
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	for i := range level + 1 + bits {
		bit := self[i/8] >> (7 - i%8) & 1
		switch {
		case i == level:
			bit ^= 1
		case i > level:
			bit = byte(number >> (level + bits - i) & 1)
		}
		id[i/8] = id[i/8]&^(0x80>>(i%8)) | bit<<(7-i%8)
	}
	return id
}

// run answers until the socket is closed.
func (s *swarm) run() {
	in := make([]router.Packet, 64)
	for i := range in {
		in[i].Data = make([]byte, 2048)
	}
	for {
		n, err := s.conn.ReadBatch(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var out []router.Packet
		for _, p := range in[:n] {
			var m krpc.Message
			self := s.index[p.Local]
			if self == nil || krpc.Decode(p.Data, &m) != nil || m.Type != krpc.TypeQuery {
				continue
			}
			s.asked.Store(p.Local, true)
			reply := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, ID: self.ID, HasID: true, IP: p.Addr}
			if m.HasTarget {
				reply.Nodes, reply.Nodes6 = s.closest(m.Target)
			}
			if b, err := reply.Append(nil); err == nil {
				out = append(out, router.Packet{Data: b, Addr: p.Addr, Local: p.Local})
			}
		}
		_, _ = s.conn.WriteBatch(out) // what is lost is asked for again
	}
}

// closest returns the eight nodes closest to target, in compact form. It does not sort all: many are asked at once.
func (s *swarm) closest(target krpc.ID) (nodes, nodes6 []byte) {
	var sorted []*router.Contact
	for i := range s.nodes {
		c := &s.nodes[i]
		at := len(sorted)
		for at > 0 && router.Closer(target, c.ID, sorted[at-1].ID) {
			at--
		}
		if at < 8 {
			sorted = slices.Insert(sorted[:min(len(sorted), 7)], at, c)
		}
	}
	var all []byte
	for _, c := range sorted {
		all = krpc.AppendNode(all, c.ID, c.Addr)
	}
	if s.to.Addr().Is6() {
		return nil, all
	}
	return all, nil
}

// wave is how many nodes are introduced at a time: the node under test looks at no more senders at once than it may ping.
const wave = 16

// round is longer than that in which the node looks at two senders who have proved nothing.
const round = 40 * time.Millisecond

// join gives nodes their places in the routing table: each sends pings until the node under test asks it back, if it has not
// done so before.
func (s *swarm) join(t *testing.T, n *node, nodes []router.Contact) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for nodes := range slices.Chunk(nodes, wave) {
		missing, next := 0, time.Time{}
		if err := fleet.Poll(ctx, time.Millisecond, func() (bool, error) {
			missing = 0
			again := !time.Now().Before(next)
			for _, c := range nodes {
				if _, ok := s.asked.Load(c.Addr.Addr()); ok {
					continue
				}
				missing++
				if !again {
					continue
				}
				// Not canonical, so that user space sees it: the kernel half reports few senders of a kind.
				b := []byte("d1:y1:q1:t2:hi1:q4:ping1:ad2:id" + str(c.ID[:]) + "ee")
				if _, err := s.conn.WriteBatch([]router.Packet{{Data: b, Addr: s.to, Local: c.Addr.Addr()}}); err != nil {
					return false, err
				}
			}
			if again {
				next = time.Now().Add(round)
			}
			if missing > 0 {
				return false, nil
			}
			report, err := n.report()
			return report.InFlight == 0, err // it has all the answers, so that it may ping as many again
		}); err != nil {
			t.Fatalf("%d of %d nodes were not asked back: %v; counters are %v", missing, len(nodes), err, moved(n.counters(t)))
		}
	}
}

// published waits until the node answers with each of the swarm's nodes when asked for its ID.
func (s *swarm) published(t *testing.T, r *rig) {
	t.Helper()
	c := r.dial(t, netip.AddrPortFrom(clientFor(s.to), 0), s.to)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, n := range s.nodes {
		must(t, fleet.Poll(ctx, pollEvery, func() (bool, error) {
			m := ask(t, c, krpc.Message{Method: krpc.MethodFindNode, Target: n.ID, HasTarget: true})
			return bytes.Contains(append(m.Nodes, m.Nodes6...), krpc.AppendNode(nil, n.ID, n.Addr)), nil
		}))
	}
}
