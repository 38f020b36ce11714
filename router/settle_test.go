package router_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// behindNAT runs a node that others see at the i-th address of the network, which it has to learn from them.
func (s *simNet) behindNAT(t *testing.T, c router.Config, i int) *simNode {
	t.Helper()
	conn := s.listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), 6881))
	s.move(conn, simAddr(router.IPv4, i))
	return s.startConn(t, c, newMemStore(), conn)
}

// staleContacts counts the contacts of all nodes, and those of them that go by another ID than the one known: all in the
// tables, and those handed out.
func staleContacts(fleet []*simNode) (contacts, stale, handedOut int) {
	ids := make(map[netip.AddrPort]router.ID)
	for i, n := range fleet {
		ids[simAddr(router.IPv4, i)] = n.ID(router.IPv4)
	}
	for _, n := range fleet {
		for _, c := range n.Table(router.IPv4) {
			contacts++
			if ids[c.Addr] != c.ID {
				stale++
			}
		}
		for _, b := range n.View().Snapshot().Nodes4 {
			for id, a := range krpc.Nodes(b[:]) {
				if ids[a] != id {
					handedOut++
				}
			}
		}
	}
	return contacts, stale, handedOut
}

// Nodes behind NATs learn their addresses from one another, and take IDs that fit. Soon nobody knows them by the IDs that
// they began with, though all may begin at once, and the first has nobody to ask.
func TestNobodyKeepsTheIDBeforeTheVotes(t *testing.T) {
	for name, pause := range map[string]time.Duration{"at once": 0, "one after another": time.Second} {
		t.Run(name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				var fleet []*simNode
				for i := range 60 {
					var c router.Config
					if i > 0 {
						c.Bootstrap = []string{simAddr(router.IPv4, 0).String()}
					}
					fleet = append(fleet, s.behindNAT(t, c, i))
					time.Sleep(pause)
				}
				for _, wait := range []time.Duration{5 * time.Second, 5 * time.Second, 20 * time.Second} {
					time.Sleep(wait)
					contacts, stale, handedOut := staleContacts(fleet)
					t.Logf("%d of %d contacts are known by an ID of before, %d are handed out", stale, contacts, handedOut)
				}
				contacts, stale, _ := staleContacts(fleet)
				if stale > 0 || contacts < len(fleet)*2*8 {
					t.Errorf("%d of %d contacts are known by an ID of before", stale, contacts)
				}
				for i, n := range fleet {
					if f := n.Stats().Families[0]; f.External != simAddr(router.IPv4, i).Addr() || !f.Secure {
						t.Errorf("node %d: %+v", i, f)
					}
				}
				stopAll(fleet)
			})
		})
	}
}

// A node is no contact of anybody's before its address is known. Where too few can tell it, that ends soon.
func TestReadOnlyUntilSettled(t *testing.T) {
	for _, others := range []int{1, 30} {
		sim(t, func(t *testing.T, s *simNet) {
			fleet := s.startSim(t, others, router.IPv4)
			time.Sleep(time.Minute)
			n := s.behindNAT(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, 99)
			k := &fakeKernel{held: make(map[[20]byte]bool)} // whose queries are ours as well
			if err := n.SetKernel(k); err != nil {
				t.Fatal(err)
			}
			if !k.latest().ReadOnly4 {
				t.Error("the kernel half asks as a node at once")
			}
			begin, before := n.ID(router.IPv4), n.ID(router.IPv4)
			var asNode, asClient time.Duration // of the last query of either kind with the first ID
			start := time.Now()
			s.mu.Lock()
			s.tap = func(from, _ netip.AddrPort, b []byte) {
				var m krpc.Message
				if from != simAddr(router.IPv4, 99) || krpc.Decode(b, &m) != nil || m.Type != krpc.TypeQuery || m.ID != begin {
					return
				}
				if m.ReadOnly {
					asClient = time.Since(start)
				} else {
					asNode = time.Since(start)
				}
			}
			s.mu.Unlock()
			time.Sleep(30 * time.Second)
			after := n.ID(router.IPv4)
			s.mu.Lock()
			s.tap = nil
			s.mu.Unlock()
			known := 0
			for _, m := range fleet {
				if slices.Contains(m.Table(router.IPv4), router.Contact{ID: after, Addr: simAddr(router.IPv4, 99)}) {
					known++
				}
			}
			if k.latest().ReadOnly4 {
				t.Error("the kernel half never asks as a node")
			}
			switch {
			case asClient == 0 || asClient > 7*time.Second || known == 0:
				t.Errorf("%d others: read-only for %v, known to %d", others, asClient, known)
			case others == 1 && (after != before || asNode < 10*time.Second):
				t.Errorf("with nobody to vote: ID %v, was %v; queries as a node until %v", after, before, asNode)
			case others > 1 && (after == before || asNode > 0 || asClient > 2*time.Second):
				t.Errorf("with %d to vote: ID %v, was %v; queries as a node until %v, as a client until %v", others, after, before, asNode, asClient)
			}
			n.stop()
			stopAll(fleet)
		})
	}
}

// Forged queries from the address of a contact do not push it out, and cause few pings.
func TestForgedIDChange(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 2, router.IPv4)
		time.Sleep(time.Minute)
		n, victim := fleet[0], router.Contact{ID: fleet[1].ID(router.IPv4), Addr: fleet[1].addr}
		forger := &simConn{net: s, local: victim.Addr}
		for i := range 600 {
			q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: router.ID{1, byte(i >> 8), byte(i)}, HasID: true}
			b, err := q.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.send(forger, n.addr, b)
			time.Sleep(100 * time.Millisecond)
			if !published(n, victim) {
				t.Fatalf("%d forged queries have pushed a contact out", i+1)
			}
		}
		var pings uint64
		for _, c := range fleet[1].Stats().Counters {
			if c.Group == "query received" && c.Name == "ping" {
				pings += c.Value
			}
		}
		if pings < 2 || pings > 8 {
			t.Errorf("600 forged queries in a minute have caused %d pings", pings)
		}
		stopAll(fleet)
	})
}

// A contact that takes another ID and tells nobody but by querying is known by that within seconds, and lookups have no
// more to do with the old one.
func TestIDChangeIsNoticed(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 8, router.IPv4) // the other seven and the contact are all that a lookup finds, however far its new ID is
		a := simAddr(router.IPv4, 50)
		m := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(_, r *krpc.Message) *krpc.Message { return r })
		for _, n := range fleet {
			for range 2 {
				if _, err := n.Ping(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Minute)
		n, other, old := fleet[0], fleet[1], m.contact()
		if !published(n, old) || !published(other, old) {
			t.Fatal("it is no contact")
		}
		m.setID(krpc.NodeIDFor(a.Addr(), 2, anyID()))
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: m.contact().ID, HasID: true}
		b, err := q.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.send(m.conn, n.addr, b)
		time.Sleep(3 * time.Second)
		if published(n, old) || !published(n, m.contact()) {
			t.Error("a query has not made its new ID known")
		}
		for range 2 {
			r, err := other.FindNode(t.Context(), old.ID)
			if err != nil || slices.Contains(r.Nodes, old) || !slices.Contains(r.Nodes, m.contact()) {
				t.Errorf("a lookup found %+v, %v", r, err)
			}
			time.Sleep(3 * time.Second)
			if published(other, old) || !published(other, m.contact()) {
				t.Error("a lookup has not made its new ID known")
			}
		}
		_ = m.conn.Close()
		stopAll(fleet)
	})
}
