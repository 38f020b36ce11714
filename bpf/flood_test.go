package bpf_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/bpf/limit"
)

// TestForgedSightings has ever new senders ask, as whoever forges his address does, and then honest ones: these are reported soon,
// whether they have proved where they are or not, and those who have also while the flood goes on.
func TestForgedSightings(t *testing.T) {
	onCPU(t) // each has a share
	r := rand.New(rand.NewPCG(60, 1))
	p := private(t, bpf.Config{Looks: math.MaxUint32}) // as much time for the flood as it likes
	ready(t, p, nil, snapshot(r, 30, 30))
	must(t, p.SetLimits(limit.Config{Growth: 1 << 40})) // answers for all of it
	read := make(chan error, 1)
	go func() {
		read <- p.Sightings(t.Context(), func(s bpf.Sighting) {
			net := s.Addr.Addr().As16()[4]
			if s.Addr.Addr().Is4() {
				net = s.Addr.Addr().As4()[0]
			}
			if net == 8 && s.Proven || net == 9 && !s.Proven {
				t.Errorf("%v: proven %v", s.Addr, s.Proven)
			}
		})
	}()
	t.Cleanup(func() { must(t, <-read) })
	reported := func(end netip.AddrPort, from netip.AddrPort) bool {
		before := counts(t, p)["event/sighting"]
		if verdict, _ := run(t, p, queryTo(end, from, []byte(findNode)).frame(t)); verdict != xdpTX {
			t.Fatalf("%v is not answered", from)
		}
		return counts(t, p)["event/sighting"] != before
	}
	sender := func(v6 bool, net byte) (to, from netip.AddrPort) {
		if v6 {
			return node6, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, net, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 15: byte(r.Uint32())}), 6881)
		}
		return node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{net, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}), 6881)
	}
	n := 100_000
	if testing.Short() {
		n = 2000 // emulated machines are slow
	}
	for _, v6 := range []bool{false, true} {
		begin, before, unheard := time.Now(), counts(t, p)["event/sighting"], 0 // two may share a place
		for i := range n {
			to, from := sender(v6, 8)
			if verdict, _ := run(t, p, queryTo(to, from, []byte(findNode)).frame(t)); verdict != xdpTX {
				t.Fatalf("%v is not answered", from)
			}
			if i%(n/20) == 0 {
				to, from := sender(v6, 9)
				must(t, p.Prove(from.Addr()))
				if !reported(to, from) {
					unheard++
				}
				// An answer that nobody waits for proves nothing either, whoever came before.
				to, from = sender(v6, 8)
				run(t, p, queryTo(to, from, []byte("d1:rd2:id20:abcdefghij0123456789e1:t4:\xff\xff\xff\xff1:y1:re")).frame(t))
			}
		}
		rounds := 2 + uint64(time.Since(begin)>>25)
		if got := counts(t, p)["event/sighting"] - before - 20 + uint64(unheard); got == 0 || got > 2*rounds {
			t.Errorf("of %d senders who may be forged %d are reported in %d rounds at most", n, got, rounds)
		}
		if unheard > 3 {
			t.Errorf("of 20 who have proved their address %d are not reported in the flood", unheard)
		}
		for i, late := 0, 0; i < 40; i++ {
			to, from := sender(v6, 10)
			if i%2 == 0 {
				must(t, p.Prove(from.Addr()))
			}
			for deadline := time.Now().Add(5 * time.Second); !reported(to, from); {
				if !time.Now().After(deadline) {
					continue
				}
				if late++; late > 3 {
					t.Fatalf("%v, who asks after the flood, is not reported, nor are others", from)
				}
				break
			}
		}
	}
	must(t, p.AgeSightings(400))
	// What is remembered of who has proved his address lasts, of others not.
	for _, v6 := range []bool{false, true} {
		to, known := sender(v6, 11)
		_, other := sender(v6, 11)
		must(t, p.Prove(known.Addr()))
		for _, from := range []netip.AddrPort{known, other} {
			for deadline := time.Now().Add(10 * time.Second); !reported(to, from) && time.Now().Before(deadline); {
			}
			if reported(to, from) {
				t.Errorf("%v is reported again at once", from)
			}
		}
		must(t, p.AgeSightings(30))
		if reported(to, known) {
			t.Errorf("%v is reported again before five minutes are over", known)
		}
		for deadline := time.Now().Add(10 * time.Second); !reported(to, other); {
			if time.Now().After(deadline) {
				t.Errorf("%v is not reported again", other)
				break
			}
		}
	}
}
