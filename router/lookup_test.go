package router_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// A lookup has no more than three queries without answer, asks nobody twice, and ends with the k closest nodes of the
// whole network, once they have answered.
func TestLookupIsExact(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 100, router.IPv4)
		time.Sleep(2 * time.Minute)
		n := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, ReadOnly: true}, nil, simAddr(router.IPv4, 200))
		<-n.Ready()
		for i := range 20 {
			target := anyID()
			most, last := 0, router.Progress{}
			asked := map[netip.AddrPort]int{}
			s.tapQueries(func(from, to netip.AddrPort, q *krpc.Message) {
				if from == n.addr && q.Method == krpc.MethodFindNode && q.Target == target {
					asked[to]++
				}
			})
			got, err := n.FindNode(t.Context(), target, router.WithProgress(func(p router.Progress) {
				most, last = max(most, p.InFlight), p
			}))
			if err != nil {
				t.Fatal(err)
			}
			if most != 3 {
				t.Errorf("lookup %d: up to %d queries were in flight, want 3", i, most)
			}
			var want, have []router.ID
			for _, m := range fleet {
				want = append(want, m.ID(router.IPv4))
			}
			slices.SortFunc(want, func(a, b router.ID) int {
				if router.Closer(target, a, b) {
					return -1
				}
				return 1
			})
			for _, c := range got.Nodes {
				have = append(have, c.ID)
			}
			if !slices.Equal(have, want[:8]) {
				t.Errorf("lookup %d ended with\n%v, want\n%v", i, have, want[:8])
			}
			s.mu.Lock()
			for to, times := range asked {
				if times > 1 {
					t.Errorf("lookup %d: %v was asked %d times", i, to, times)
				}
			}
			if len(asked) != last.Queried || len(asked) < 8 || len(asked) > 30 {
				t.Errorf("lookup %d: %d nodes were asked, progress says %d; want between 8 and 30", i, len(asked), last.Queried)
			}
			s.mu.Unlock()
		}
		n.stop()
		stopAll(fleet)
	})
}

// names is a resolver that knows some names.
type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := n[host]; ok {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// Bootstrap nodes may be host names, of which some are unknown, and may have addresses of both families.
func TestBootstrapFromHostNames(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4, router.IPv6)
		time.Sleep(time.Minute)
		first := []netip.Addr{simAddr(router.IPv4, 0).Addr(), simAddr(router.IPv6, 0).Addr()}
		n := s.start(t, router.Config{
			Bootstrap: []string{"gone.example:6881", "boot.example:6881"},
			Resolver:  names{"boot.example": first},
		}, newMemStore(), simAddr(router.IPv4, 100), simAddr(router.IPv6, 100))
		<-n.Ready()
		for _, f := range []router.Family{router.IPv4, router.IPv6} {
			target := fleet[15].ID(f)
			if r, err := n.FindNode(t.Context(), target, router.WithFamilies(f)); err != nil || r.Nodes[0].ID != target {
				t.Errorf("%v: %+v, %v", f, r, err)
			}
		}
		n.stop()

		var log bytes.Buffer
		lost := s.start(t, router.Config{
			Bootstrap: []string{"gone.example:6881", "lan.example:6881"},
			Resolver:  names{"lan.example": {netip.MustParseAddr("192.168.1.1")}}, // nodes of the public network live elsewhere
			Logger:    slog.New(slog.NewTextHandler(&log, nil)),
		}, newMemStore(), simAddr(router.IPv4, 101))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		select {
		case <-lost.Ready():
			t.Error("ready, though nobody is known")
		case <-ctx.Done():
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Error(ctx.Err())
		}
		lost.stop()
		for _, want := range []string{"node=gone.example:6881", "address=192.168.1.1:6881"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s is missing in the log:\n%s", want, log.String())
			}
		}
		stopAll(fleet)
	})
}
