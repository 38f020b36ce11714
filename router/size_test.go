package router_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// raw sends a query from a socket and returns the datagram that answers it.
func (s *simNet) raw(t *testing.T, from *simConn, to netip.AddrPort, q krpc.Message) []byte {
	t.Helper()
	q.Type, q.HasID, q.ReadOnly = krpc.TypeQuery, true, true
	b, err := q.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.send(from, to, b)
	ps := []router.Packet{{Data: make([]byte, 4096)}}
	if _, err := from.ReadBatch(ps); err != nil {
		t.Fatal(err)
	}
	return ps[0].Data
}

// No reply is longer than 1,024 bytes but one that carries a value, and that one fits into one packet on Ethernet.
func TestRepliesFit(t *testing.T) {
	limits := map[router.Family]int{router.IPv4: 1500 - 20 - 8, router.IPv6: 1500 - 40 - 8}
	sim(t, func(t *testing.T, s *simNet) {
		var fleet []*simNode
		for i := range 30 {
			c := router.Config{Bootstrap: []string{simAddr(router.IPv4, 0).String(), simAddr(router.IPv6, 0).String()}}
			fleet = append(fleet, s.start(t, c, newMemStore(), simAddr(router.IPv4, i), simAddr(router.IPv6, i)))
		}
		time.Sleep(5 * time.Minute)
		n := fleet[3]
		infohash := router.ID{0x77}
		for i := range 60 {
			for _, f := range []router.Family{router.IPv4, router.IPv6} {
				if err := n.store.Announce(infohash, simAddr(f, 300+i), i%2 == 0, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
				if err := n.store.Announce(router.ID{0x78, byte(i)}, simAddr(f, 1), false, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		value := append([]byte("996:"), bytes.Repeat([]byte("x"), 996)...)
		it := signed(testKey(), "salt", string(value), 1<<60)
		target := krpc.MutableTarget(it.K[:], it.Salt)
		if _, err := n.PutMutable(t.Context(), it, nil, router.Keep()); err != nil {
			t.Fatal(err)
		}
		for _, f := range []router.Family{router.IPv4, router.IPv6} {
			from, to := s.listen(simAddr(f, 200)), simAddr(f, 3)
			for _, q := range []krpc.Message{
				{Method: krpc.MethodSampleInfohashes, HasTarget: true},
				{Method: krpc.MethodFindNode, HasTarget: true},
				{Method: krpc.MethodGetPeers, HasInfoHash: true, InfoHash: infohash},
				{Method: krpc.MethodGetPeers, HasInfoHash: true, InfoHash: infohash, Scrape: true},
				{Method: krpc.MethodGet, HasTarget: true, Target: target},
			} {
				for _, tid := range []int{2, 20, 250} {
					if q.Method == krpc.MethodGet && tid > 20 {
						continue
					}
					q.TID, q.Want = bytes.Repeat([]byte{'t'}, tid), krpc.WantN4|krpc.WantN6
					b := s.raw(t, from, to, q)
					what := fmt.Sprintf("%v over %v, transaction ID of %d bytes", q.Method, f, tid)
					var r krpc.Message
					if err := krpc.Decode(b, &r); err != nil || r.Type != krpc.TypeResponse {
						t.Fatalf("%s: %v %v", what, r.Type, err)
					}
					limit := krpc.MaxPayload
					if q.Method == krpc.MethodGet {
						if !bytes.Equal(r.V, value) {
							t.Errorf("%s: no value", what)
						}
						limit = limits[f]
					}
					own := r.Nodes
					if f == router.IPv6 {
						own = r.Nodes6
					}
					if len(b) > limit || len(own) == 0 {
						t.Errorf("%s: %d bytes, %d of contacts", what, len(b), len(own))
					}
					if q.Method == krpc.MethodSampleInfohashes && len(r.Samples) == 0 ||
						q.Method == krpc.MethodGetPeers && !q.Scrape && len(r.Values) == 0 {
						t.Errorf("%s: %+v", what, r)
					}
				}
			}
			_ = from.Close()
		}
		stopAll(fleet)
	})
}
