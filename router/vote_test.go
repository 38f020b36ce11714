package router_test

import (
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// One host has one vote on our address, however many addresses of its IPv6 /64 it uses.
func TestOneVotePerHost(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), netip.MustParseAddrPort("[fd00::1]:6881"))
		claim := netip.MustParseAddrPort("[2001:db8:ffff::1]:6881")
		var all []*remote
		ask := func(a netip.AddrPort) {
			m := s.remote(t, a, anyID(), func(_, r *krpc.Message) *krpc.Message {
				r.IP = claim
				return r
			})
			all = append(all, m)
			if _, err := n.Ping(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for i := range 10 {
			ask(netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)}), 6881))
		}
		if got := n.Stats().Families[0].External; got.IsValid() {
			t.Errorf("one host has made us believe that we are at %v", got)
		}
		for i := range 5 {
			ask(simAddr(router.IPv6, 100+i))
		}
		if got := n.Stats().Families[0].External; got != claim.Addr() {
			t.Errorf("six hosts have not made us believe that we are at %v: %v", claim.Addr(), got)
		}
		n.stop()
		for _, m := range all {
			_ = m.conn.Close()
		}
	})
}
