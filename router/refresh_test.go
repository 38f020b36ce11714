package router_test

import (
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// A node that has taken an ID next to ours does not make us look up IDs in all the empty buckets before it.
func TestCloseIDDoesNotMultiplyRefreshes(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 60, router.IPv4)
		time.Sleep(10 * time.Minute)
		n := fleet[7]
		id := n.ID(router.IPv4)
		id[18] ^= 1
		m := s.remote(t, simAddr(router.IPv4, 100), id, func(_, r *krpc.Message) *krpc.Message { return r })
		queries := s.queriesDuring(func() {
			if _, err := n.Ping(t.Context(), m.conn.local); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		})
		most := 0
		for _, other := range fleet {
			if other != n {
				most = max(most, queries[other.addr])
			}
		}
		if queries[n.addr] > 2*most {
			t.Errorf("%d queries in an hour, no other node more than %d", queries[n.addr], most)
		}
		if !published(n, m.contact()) {
			t.Error("it is no contact")
		}
		_ = m.conn.Close()
		stopAll(fleet)
	})
}
