package router_test

import (
	"net/netip"
	"testing"
	"time"

	"kdht/router"
)

// tapped counts what nodes send, by where to.
func (s *simNet) tapped(count func(to netip.AddrPort)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tap = func(_, to netip.AddrPort, _ []byte) { count(to) }
}

// Two networks that know nothing of each other become one when half of the nodes of each, those on one LAN, hear of each
// other.
func TestHintsMergeNetworks(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		var groups [2][]*simNode
		for g := range groups {
			var bootstrap []string
			for i := range 12 {
				n := s.start(t, router.Config{Private: true, Bootstrap: bootstrap}, newMemStore(), simAddr(router.IPv4, 100*g+i))
				bootstrap = []string{simAddr(router.IPv4, 100*g).String()}
				groups[g] = append(groups[g], n)
			}
		}
		time.Sleep(time.Minute)
		put := func(v string) router.ID {
			t.Helper()
			put, err := groups[1][3].PutImmutable(t.Context(), []byte(v))
			if err != nil {
				t.Fatal(err)
			}
			return put.Target
		}
		if _, err := groups[0][5].GetImmutable(t.Context(), put("3:abc")); err == nil {
			t.Fatal("the networks are one already")
		}
		for g := range groups {
			var heard []netip.AddrPort
			for _, n := range groups[1-g][:6] {
				heard = append(heard, n.addr)
			}
			for _, n := range groups[g][:6] {
				n.SetHints(heard)
			}
		}
		time.Sleep(30 * time.Second)
		target := put("3:def") // what was put before need not be at the nodes that are the closest to it now
		for _, n := range groups[0] {
			if _, err := n.GetImmutable(t.Context(), target); err != nil {
				t.Errorf("%v: %v", n.addr, err)
			}
		}
		if !groups[0][0].Knows(groups[1][0].addr.Addr()) {
			t.Error("the hint is no contact")
		}
		stopAll(groups[0])
		stopAll(groups[1])
	})
}

// The first node of a network is ready alone, and joins another one when it is told of it, which may begin later.
func TestHintsToTheFirst(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Private: true}, newMemStore(), simAddr(router.IPv4, 1))
		<-n.Ready()
		late := simAddr(router.IPv4, 2)
		n.SetHints([]netip.AddrPort{n.addr, late})
		time.Sleep(10 * time.Minute)
		m := s.start(t, router.Config{Private: true}, newMemStore(), late)
		time.Sleep(time.Minute)
		if !n.Knows(late.Addr()) || !m.Knows(n.addr.Addr()) {
			t.Error("they do not know each other")
		}
		m.stop()
		n.stop()
	})
}

// However hints change, no host is sent more than a datagram with its repetition at pauses of two seconds to a minute,
// and what is not a place for a node is sent nothing.
func TestHintsAreNoWeapon(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Private: true}, newMemStore(), simAddr(router.IPv4, 1))
		<-n.Ready()
		victim := netip.MustParseAddr("198.18.7.7")
		sent := make(map[netip.Addr]int)
		s.tapped(func(to netip.AddrPort) { sent[to.Addr()]++ })
		for i := range 3600 { // for an hour, every second
			var hints []netip.AddrPort
			if i%2 == 0 {
				for port := range uint16(20) {
					hints = append(hints, netip.AddrPortFrom(victim, 1000+uint16(i)+port))
				}
			}
			for _, never := range []string{"127.0.0.1:0", "224.0.0.1:6881", "255.255.255.255:6881", "0.0.0.0:6881", "[fe80::1%2]:6881", "[::ffff:0.0.0.0]:1"} {
				hints = append(hints, netip.MustParseAddrPort(never))
			}
			n.SetHints(hints)
			time.Sleep(time.Second)
		}
		s.untap()
		// 2, 4 ... 32 s, then once a minute; each try is sent twice.
		if got := sent[victim]; got < 60 || got > 2*(60+6) {
			t.Errorf("%d datagrams went to the victim in an hour", got)
		}
		if len(sent) != 1 {
			t.Errorf("datagrams went to %v", sent)
		}
		n.stop()
	})
}

// A flood of hints makes the node send to no more hosts than it remembers.
func TestHintsFlood(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Private: true}, newMemStore(), simAddr(router.IPv4, 1))
		<-n.Ready()
		sent := make(map[netip.Addr]int)
		s.tapped(func(to netip.AddrPort) { sent[to.Addr()]++ })
		begin := time.Now()
		for i := range 1000 {
			var hints []netip.AddrPort
			for j := range 100 {
				hints = append(hints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 6881))
			}
			n.SetHints(hints)
			time.Sleep(200 * time.Millisecond)
		}
		s.untap()
		minutes := int(time.Since(begin)/time.Minute) + 1
		if len(sent) == 0 || len(sent) > 256*minutes {
			t.Errorf("datagrams went to %d hosts in %d minutes, want at most 256 a minute", len(sent), minutes)
		}
		t.Logf("%d hosts in %d minutes", len(sent), minutes)
		n.stop()
	})
}

// Hints that have answered are left alone, also those for whom there is no place in the routing table.
func TestHintsThatAnswered(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		var fleet []*simNode
		var heard []netip.AddrPort
		for i := range 64 {
			n := s.start(t, router.Config{Private: true, Tuning: router.Tuning{Bits: 1}}, newMemStore(), simAddr(router.IPv4, i))
			fleet, heard = append(fleet, n), append(heard, n.addr)
		}
		for _, n := range fleet {
			n.SetHints(heard)
		}
		time.Sleep(2 * time.Minute)
		var asker *simNode // the one in whose table the fewest others have a place: their IDs are random
		unknown := -1
		for _, n := range fleet {
			count := 0
			for _, a := range heard {
				if a != n.addr && !n.Knows(a.Addr()) {
					count++
				}
			}
			if count > unknown {
				asker, unknown = n, count
			}
		}
		if unknown < 5 {
			t.Errorf("only %d nodes have no place in the table", unknown)
		}
		sent := 0
		s.mu.Lock()
		s.tap = func(from, _ netip.AddrPort, _ []byte) {
			if from == asker.addr {
				sent++
			}
		}
		s.mu.Unlock()
		time.Sleep(5 * time.Minute)
		s.untap()
		// Its own queries and its answers to others.
		t.Logf("%d nodes are not in the table of one, which sends %d datagrams in 5 minutes", unknown, sent)
		if sent > 100 {
			t.Errorf("a node that knows all it needs sends %d datagrams in 5 minutes", sent)
		}
		stopAll(fleet)
	})
}
