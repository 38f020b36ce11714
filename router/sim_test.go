package router_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// simAddr returns the i-th address of a simulated network, each in a /24 or /64 of its own.
func simAddr(f router.Family, i int) netip.AddrPort {
	if f == router.IPv6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(i >> 8), byte(i), 15: 1}), 6881)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i), 1}), 6881)
}

// startSim runs n nodes of the public network that join through the first, a few per second.
func (s *simNet) startSim(t *testing.T, n int, families ...router.Family) []*simNode {
	t.Helper()
	var fleet []*simNode
	for i := range n {
		c := s.config
		var addrs []netip.AddrPort
		for _, f := range families {
			addrs = append(addrs, simAddr(f, i))
			if i > 0 {
				c.Bootstrap = append(c.Bootstrap, simAddr(f, 0).String())
			}
		}
		fleet = append(fleet, s.start(t, c, newMemStore(), addrs...))
		time.Sleep(200 * time.Millisecond)
	}
	return fleet
}

func (s *simNet) setLoss(loss float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = loss
}

// Lookups find what was stored, with a fifth of all datagrams lost and a fifth of the nodes dead.
func TestLookupsFindWhatWasStored(t *testing.T) {
	const nodes, items = 300, 20
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		t.Run(f.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimNet(1)
				fleet := s.startSim(t, nodes, f)
				time.Sleep(2 * time.Minute)
				s.setLoss(0.2)
				var targets []router.ID
				stored := 0
				for i := range items {
					r, err := fleet[i*7].PutImmutable(t.Context(), fmt.Appendf(nil, "i%de", i))
					if err != nil || len(r.Stored) < 3 {
						t.Errorf("put %d: %+v, %v", i, r, err)
					}
					stored += len(r.Stored)
					targets = append(targets, r.Target)
				}
				// A put is sent three times at most, so one of 21 is lost: of 160, fewer than 138 arrive once in half a million times, and
				// with a repetition less every third time.
				if stored < 138 {
					t.Errorf("%d puts arrived of %d", stored, items*8)
				}
				// Every fifth dies, none of the first, which hold no more than their share.
				var alive []*simNode
				for i, n := range fleet {
					if i%5 == 4 {
						n.stop()
					} else {
						alive = append(alive, n)
					}
				}
				begin, queried, lookups, again := time.Now(), 0, 0, 0
				for i, n := range alive {
					target := targets[i%items]
					got, err := n.GetImmutable(t.Context(), target)
					if errors.Is(err, router.ErrNotFound) { // of an item that five nodes have, all who live may be lost
						again++
						got, err = n.GetImmutable(t.Context(), target)
					}
					if err != nil || krpc.ImmutableTarget(got.Item.V) != target {
						t.Errorf("%v gets %v: %+v, %v", n.addr, target, got, err)
						continue
					}
					queried += got.Stats.Queried
					lookups++
				}
				if again > lookups/50 {
					t.Errorf("%d of %d lookups found nothing at first", again, lookups)
				}
				t.Logf("%d lookups, %d queries and %v of the simulated network each",
					lookups, queried/lookups, time.Since(begin)/time.Duration(lookups))
				for _, n := range fleet {
					n.stop()
				}
			})
		})
	}
}
