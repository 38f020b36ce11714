package router_test

import (
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// rerun runs a node for an hour at the host's address, where others see it at another, and returns its ID at the beginning
// and its state in the end.
func (s *simNet) rerun(t *testing.T, st *memStore, bootstrap, host, seen netip.AddrPort) (first router.ID, last router.FamilyStats) {
	t.Helper()
	conn := s.listen(host)
	s.move(conn, seen)
	n := s.startConn(t, router.Config{Bootstrap: []string{bootstrap.String()}}, st, conn)
	defer n.stop()
	first = n.ID(router.IPv4)
	time.Sleep(time.Hour)
	return first, n.Stats().Families[0]
}

// A host may have a public address and be seen at another one, as behind a VPN. Its node keeps its ID when it restarts.
func TestRestartSeenElsewhere(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4)
		st, host, seen := newMemStore(), simAddr(router.IPv4, 500), simAddr(router.IPv4, 501)
		_, before := s.rerun(t, st, fleet[0].addr, host, seen)
		for range 2 {
			first, after := s.rerun(t, st, fleet[0].addr, host, seen)
			if first != before.ID || after.ID != before.ID || after.External != seen.Addr() || !after.Secure {
				t.Errorf("begins as %v, ends as %+v, was %+v", first, after, before)
			}
		}
		stopAll(fleet)
	})
}

// A host that has moved gets the ID of its new address also where too few nodes could tell it.
func TestRestartMovedAmongFew(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 2, router.IPv4)
		st, old, moved := newMemStore(), simAddr(router.IPv4, 500), simAddr(router.IPv4, 501)
		s.rerun(t, st, fleet[0].addr, old, old)
		if _, after := s.rerun(t, st, fleet[0].addr, moved, moved); after.External != moved.Addr() || !krpc.ValidNodeID(after.ID, moved.Addr()) {
			t.Errorf("%+v", after)
		}
		stopAll(fleet)
	})
}
