package router_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kdht/router"
)

// deadLink is a socket whose host has no route, as long as down is set.
type deadLink struct {
	*simConn
	down   atomic.Bool
	unsent atomic.Int64
}

func (c *deadLink) WriteBatch(ps []router.Packet) (int, error) {
	if c.down.Load() {
		c.unsent.Add(int64(len(ps)))
		return 0, fmt.Errorf("sendmmsg: %w", os.NewSyscallError("sendmmsg", syscall.ENETUNREACH))
	}
	return c.simConn.WriteBatch(ps)
}

// When nobody can be reached the fault is ours: whether sending fails or datagrams get lost on the way, the contacts
// stay, and are of use as soon as the network is back.
func TestOutage(t *testing.T) {
	for name, lost := range map[string]bool{"no route": false, "all is lost": true} {
		t.Run(name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				fleet := s.startSim(t, 40, router.IPv4)
				link := &deadLink{simConn: s.listen(simAddr(router.IPv4, 200))}
				n := s.startOn(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, newMemStore(), link)
				time.Sleep(10 * time.Minute)
				before := len(n.View().Snapshot().Nodes4)
				setDown := func(down bool) {
					if !lost {
						link.down.Store(down)
					} else if down {
						s.setLoss(1)
					} else {
						s.setLoss(0)
					}
				}
				setDown(true)
				begin := time.Now()
				for range 5 {
					_, _ = n.FindNode(t.Context(), anyID())
				}
				if d := time.Since(begin); !lost && d > time.Second {
					t.Errorf("5 lookups without a route took %v", d)
				}
				time.Sleep(40 * time.Minute)
				// The first eight failures in a row may have been those of contacts.
				if got := len(n.View().Snapshot().Nodes4); got < before-8 {
					t.Errorf("%d contacts are handed out after the outage, %d before", got, before)
				}
				setDown(false)
				time.Sleep(100 * time.Second)
				if got := n.Stats().Families[0]; got.Good < before*9/10 {
					t.Errorf("%d good contacts, %d before", got.Good, before)
				}
				target := fleet[25].ID(router.IPv4)
				if r, err := n.FindNode(t.Context(), target); err != nil || r.Nodes[0].ID != target {
					t.Errorf("%+v, %v", r, err)
				}
				n.stop()
				stopAll(fleet)
			})
		})
	}
}

// A ping that cannot be sent says so at once.
func TestPingWithoutRoute(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		link := &deadLink{simConn: s.listen(simAddr(router.IPv4, 0))}
		link.down.Store(true)
		n := s.startOn(t, router.Config{}, nil, link)
		begin := time.Now()
		_, err := n.Ping(t.Context(), simAddr(router.IPv4, 1))
		if err == nil || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		n.stop()
	})
}

// An IPv4 address in IPv6 form is an IPv4 address.
func TestPingOfMappedAddress(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, m := s.start(t, router.Config{}, nil, simAddr(router.IPv4, 0)), s.start(t, router.Config{}, nil, simAddr(router.IPv4, 1))
		mapped := netip.AddrPortFrom(netip.AddrFrom16(m.addr.Addr().As16()), m.addr.Port())
		if pong, err := n.Ping(t.Context(), mapped); err != nil || pong.ID != m.ID(router.IPv4) {
			t.Errorf("%+v, %v", pong, err)
		}
		stopAll([]*simNode{n, m})
	})
}

// A node that finds few of the contacts that it saved keeps the others for the next start.
func TestSavedContactsOutliveABadStart(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 40, router.IPv4)
		time.Sleep(10 * time.Minute)
		n := fleet[39]
		n.stop()
		saved := len(n.store.nodes)
		for _, m := range fleet[1:39] {
			m.stop()
		}
		n = s.start(t, router.Config{}, n.store, n.addr)
		time.Sleep(10 * time.Minute)
		n.stop()
		if got := len(n.store.nodes); got < saved {
			t.Errorf("%d contacts saved, before the bad start %d", got, saved)
		}
		fleet[0].stop()
	})
}

// A node whose host gets its address only after the node has started is of use a second after that, though its bootstrap
// node is gone.
func TestRestartBeforeTheNetwork(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[39]
		n.stop()
		fleet[0].stop()
		link := &deadLink{simConn: s.listen(n.addr)}
		link.down.Store(true)
		n = s.startOn(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, n.store, link)
		time.Sleep(2600 * time.Millisecond) // as DHCP takes
		link.down.Store(false)
		time.Sleep(time.Second)
		if got := n.Stats().Families[0].Good; got < 8 {
			t.Errorf("%d contacts a second after the network came", got)
		}
		n.stop()
		stopAll(fleet[1:])
	})
}

// A host with an IPv6 socket but no IPv6 network does not look for it all the time.
func TestFamilyWithoutNetwork(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 60, router.IPv4)
		time.Sleep(10 * time.Minute)
		c := router.Config{Bootstrap: []string{fleet[0].addr.String()}}
		c6 := router.Config{Bootstrap: append(c.Bootstrap, simAddr(router.IPv6, 90).String())}
		var both, alone []*simNode
		for i := range 4 { // several, and long, because an hour of one differs much from that of another
			both = append(both, s.start(t, c6, newMemStore(), simAddr(router.IPv4, 80+i), simAddr(router.IPv6, 80+i)))
			alone = append(alone, s.start(t, c, newMemStore(), simAddr(router.IPv4, 84+i)))
		}
		time.Sleep(20 * time.Minute)
		queries := s.queriesDuring(func() { time.Sleep(4 * time.Hour) })
		mean := func(nodes []*simNode) (mean int) {
			for _, n := range nodes {
				mean += queries[n.addr] / len(nodes)
			}
			return mean
		}
		t.Logf("%d queries in four hours, with IPv4 alone %d", mean(both), mean(alone))
		if mean(both) > 2*mean(alone) {
			t.Errorf("%d queries in four hours, with IPv4 alone %d", mean(both), mean(alone))
		}
		// When there is an IPv6 network, it is found.
		first6 := s.start(t, c, newMemStore(), simAddr(router.IPv4, 90), simAddr(router.IPv6, 90))
		time.Sleep(40 * time.Minute)
		for _, n := range append(both, first6) {
			if got := n.Stats().Families[1].Good; got != len(both) {
				t.Errorf("%v has %d contacts over IPv6", n.addr, got)
			}
		}
		first6.stop()
		stopAll(both)
		stopAll(alone)
		stopAll(fleet)
	})
}

// hangingResolver never answers.
type hangingResolver struct{}

func (hangingResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A small network comes back within seconds though no host name can be looked up.
func TestRestartWithoutNameServer(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 4, router.IPv4)
		time.Sleep(time.Minute)
		fleet[3].stop()
		n := s.start(t, router.Config{Bootstrap: []string{"a.example:1", "b.example:2"}, Resolver: hangingResolver{}}, fleet[3].store, fleet[3].addr)
		begin := time.Now()
		<-n.Ready()
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("ready after %v", d)
		}
		n.stop()
		stopAll(fleet)
	})
}
