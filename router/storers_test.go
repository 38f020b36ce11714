package router_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// In a network where few IDs follow BEP 42, items are stored both at the closest nodes, where others look, and at the
// closest that have a right to their ID.
func TestStoredWhereOthersLook(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		var fleet []*simNode
		for i := range 80 {
			var c router.Config
			if i > 0 {
				c.Bootstrap = []string{simAddr(router.IPv4, 0).String()}
			}
			if i%5 != 0 { // its ID is made for another address
				c.External = []netip.Addr{simAddr(router.IPv4, 400+i).Addr()}
			}
			fleet = append(fleet, s.start(t, c, newMemStore(), simAddr(router.IPv4, i)))
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(10 * time.Minute)
		allSecure := 0
		for i := range 10 {
			r, err := fleet[i].PutImmutable(t.Context(), fmt.Appendf(nil, "i%de", i))
			if err != nil {
				t.Fatal(err)
			}
			byDistance := slices.Clone(fleet)
			slices.SortFunc(byDistance, func(a, b *simNode) int {
				if router.Closer(r.Target, a.ID(router.IPv4), b.ID(router.IPv4)) {
					return -1
				}
				return 1
			})
			closest, secure, rank := 0, 0, 0
			for j, n := range byDistance {
				holds := n.store.Holds(r.Target)
				if j < 8 && holds {
					closest++
				}
				if krpc.ValidNodeID(n.ID(router.IPv4), n.addr.Addr()) && rank < 8 {
					if rank++; holds {
						secure++
					}
				}
			}
			allSecure += secure
			if closest < 7 || len(r.Stored) > 16 {
				t.Errorf("put %d at %d nodes: %d of the 8 closest, %d of the 8 closest that follow BEP 42", i, len(r.Stored), closest, secure)
			}
		}
		if allSecure < 20 {
			t.Errorf("%d copies at the 8 closest that follow BEP 42, of 10 items", allSecure)
		}
		stopAll(fleet)
	})
}
