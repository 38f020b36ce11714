package router_test

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// startAnnouncing starts nodes, of which one announces an infohash, again and again.
func startAnnouncing(t *testing.T, s *simNet) (fleet []*simNode, owner *simNode, infohash router.ID) {
	t.Helper()
	fleet = s.startSim(t, 20, router.IPv4)
	time.Sleep(time.Minute)
	owner, infohash = fleet[4], router.ID{0x33}
	if _, err := owner.Announce(t.Context(), infohash, 5000, false, router.Keep()); err != nil {
		t.Fatal(err)
	}
	return fleet, owner, infohash
}

// An announce that is withdrawn while it is being repeated stays withdrawn.
func TestUnannounceWhileRepeating(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet, owner, infohash := startAnnouncing(t, s)
		time.Sleep(10 * time.Second)
		var once sync.Once
		s.tapQueries(func(from, _ netip.AddrPort, q *krpc.Message) {
			if from == owner.addr && q.Method == krpc.MethodGetPeers {
				once.Do(func() { owner.Unannounce(infohash) })
			}
		})
		time.Sleep(time.Hour)
		if got := owner.Stats().Announces; got != 0 {
			t.Errorf("%d announces are being repeated", got)
		}
		stopAll(fleet)
	})
}

// An announce that found nobody is repeated soon.
func TestAnnounceIsRetried(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet, _, infohash := startAnnouncing(t, s)
		time.Sleep(14 * time.Minute)
		s.setLoss(1)
		time.Sleep(8 * time.Minute)
		s.setLoss(0)
		time.Sleep(6 * time.Minute)
		// All others have dropped it after 30 minutes, unless it was announced again.
		time.Sleep(3 * time.Minute)
		if got, err := fleet[11].Peers(t.Context(), infohash); err != nil || len(got.Peers) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		stopAll(fleet)
	})
}

// Own items are put again though the clock was set back since the last time.
func TestRepublishAfterClockWasSetBack(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4)
		st := newMemStore()
		v := []byte("3:own")
		target := krpc.ImmutableTarget(v)
		st.items[target] = store.Item{Target: target, V: v, Own: true, Updated: time.Now().Add(1000 * time.Hour)}
		n := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, st, simAddr(router.IPv4, 30))
		time.Sleep(10 * time.Minute)
		if _, err := fleet[7].GetImmutable(t.Context(), target); err != nil {
			t.Error(err)
		}
		n.stop()
		stopAll(fleet)
	})
}

// An announce of the UDP source port names the port as well: nodes that do not know implied_port refuse port 0.
func TestImpliedPortIsNamed(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0))
		var port atomic.Int32
		a := simAddr(router.IPv4, 10)
		m := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(q, r *krpc.Message) *krpc.Message {
			if q.Method == krpc.MethodAnnouncePeer && q.ImpliedPort {
				port.Store(int32(q.Port))
			}
			r.Token = []byte("token")
			return r
		})
		if _, err := n.Ping(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if r, err := n.Announce(t.Context(), router.ID{1}, 0, false); err != nil || len(r.Stored) != 1 || port.Load() != int32(n.addr.Port()) {
			t.Errorf("port %d: %+v, %v", port.Load(), r, err)
		}
		n.stop()
		_ = m.conn.Close()
	})
}
