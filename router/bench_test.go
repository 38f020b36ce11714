package router_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
)

// benchmarkTable returns a table as it is in a large network, with 20 full buckets and their caches, and what is
// in it.
func benchmarkTable(b *testing.B) (*router.Table, []router.Contact, *rand.Rand, time.Time) {
	g := newTableRig(nil, false)
	for bucket := range 20 {
		g.fill(bucket, 16, false)
	}
	if g.Len() != 160 {
		b.Fatalf("%d contacts, want 160", g.Len())
	}
	return g.Table, g.Contacts(), g.r, g.now
}

func BenchmarkTable(b *testing.B) {
	b.Run("Responded/known", func(b *testing.B) {
		t, cs, _, now := benchmarkTable(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			t.Responded(cs[i%len(cs)], time.Millisecond, now)
		}
	})
	b.Run("Offer/known", func(b *testing.B) {
		t, cs, _, now := benchmarkTable(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			t.Offer(cs[i%len(cs)], now)
		}
	})
	b.Run("Offer/stranger", func(b *testing.B) {
		t, cs, r, now := benchmarkTable(b)
		for i := range cs {
			cs[i].ID = randomID(r)
			ip := cs[i].Addr.Addr().As4()
			ip[0] = 8
			cs[i].Addr = netip.AddrPortFrom(netip.AddrFrom4(ip), 6881)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			t.Offer(cs[i%len(cs)], now)
		}
	})
	b.Run("Closest", func(b *testing.B) {
		t, _, r, _ := benchmarkTable(b)
		target := randomID(r)
		b.ReportAllocs()
		for b.Loop() {
			t.Closest(target, 8)
		}
	})
	b.Run("Publish", func(b *testing.B) { // snapshot and view
		t, _, _, _ := benchmarkTable(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := router.NewView(router.NewSnapshot(t, nil, [16]byte{})); err != nil {
				b.Fatal(err)
			}
		}
	})
}
