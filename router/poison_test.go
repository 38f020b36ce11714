package router_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/router"
)

// forged returns sightings with random sources and IDs for a bucket.
func (g *tableRig) forged(bucket, n int) (all []router.Contact) {
	for range n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x08000000+g.r.Uint32()>>8) // 8.0.0.0/8
		all = append(all, router.Contact{
			ID:   sharing(g.r, g.Self(), bucket),
			Addr: netip.AddrPortFrom(netip.AddrFrom4(a), 1+uint16(g.r.UintN(65535))),
		})
	}
	return all
}

func TestFloodOfForgedSightings(t *testing.T) {
	g := newTableRig(t, false)
	var members []router.Contact
	for bucket := range 5 {
		members = append(members, g.fill(bucket, 8, false)...)
	}
	published := g.Published()
	pings := 0
	for range 60 { // seconds
		g.now = g.now.Add(time.Second)
		for _, c := range g.forged(0, 2000) {
			g.Queried(c, g.now)
			if ping, ok := g.Offer(c, g.now); ok {
				pings++
				g.Failed(ping, g.now)
			}
		}
		for _, c := range g.forged(9, 2000) {
			if ping, ok := g.Offer(c, g.now); ok {
				pings++
				g.Failed(ping, g.now)
			}
		}
	}
	if !slices.Equal(g.Published(), published) {
		t.Error("forged sightings changed the table")
	}
	g.wantContacts("after the flood", members)
	g.wantCached("after the flood", nil)
	if most := 60 * (1 + 16); pings > most {
		t.Errorf("240,000 forged sightings caused %d pings, want at most %d", pings, most)
	}
	honest := g.contact(7, false)
	g.wantOffer("an honest newcomer in another bucket", honest, honest)
}

func TestForgedSightingsOfAVictim(t *testing.T) {
	g := newTableRig(t, false)
	victim, pings := g.addr().Addr(), 0
	for range 3600 {
		g.now = g.now.Add(time.Second)
		c := router.Contact{ID: randomID(g.r), Addr: netip.AddrPortFrom(victim, 1+uint16(g.r.UintN(65535)))}
		if _, ok := g.Offer(c, g.now); ok {
			pings++
		}
	}
	if pings > 12 {
		t.Errorf("the victim was pinged %d times in an hour, want at most 12", pings)
	}
}

func TestOneAddressWithManyIDs(t *testing.T) {
	g := newTableRig(t, false)
	var members []router.Contact
	for bucket := range 3 {
		members = append(members, g.fill(bucket, 6, false)...)
	}
	addr := g.addr()
	published, changes := g.Published(), 0
	for i := range 10_000 {
		g.now = g.now.Add(10 * time.Millisecond)
		port := addr.Port() + uint16(i%100)
		c := router.Contact{ID: sharing(g.r, g.Self(), i%40), Addr: netip.AddrPortFrom(addr.Addr(), port)}
		g.Offer(c, g.now)
		if g.Responded(c, time.Millisecond, g.now) {
			changes++
		}
	}
	if got := len(g.contacts(false)) - len(members); got > 1 {
		t.Errorf("one address holds %d places", got)
	}
	for _, c := range published {
		if !slices.Contains(g.Published(), c) {
			t.Errorf("%v was pushed out", c)
		}
	}
	// Each admission of the address takes bad answers first, and each makes it unpublished.
	if changes > 250 {
		t.Errorf("one address changed the table %d times in 10,000 answers", changes)
	}
}

func TestManyIDsInOneBucket(t *testing.T) {
	g := newTableRig(t, false)
	members := g.fill(0, 8, false)
	spares := g.fill(0, 8, false)
	for range 2000 { // from as many addresses, all of which answer
		g.now = g.now.Add(100 * time.Millisecond)
		c := g.contact(0, false)
		g.Offer(c, g.now)
		if g.Responded(c, time.Millisecond, g.now) {
			t.Fatal("a newcomer changed a full bucket of good contacts")
		}
	}
	g.wantContacts("after the siege", members)
	g.wantCached("after the siege", spares)
	g.fail(members[0], 2)
	if got := g.contacts(false); !slices.Contains(got, spares[7]) {
		t.Errorf("the place of a bad contact did not go to who waited for it: %v", got)
	}
}

func TestForgedQueriesDoNotKeepTheDeadAlive(t *testing.T) {
	g := newTableRig(t, false)
	dead := g.fill(0, 8, false)
	spare := g.contact(0, false)
	for start := g.now; g.now.Sub(start) < 2*time.Hour; g.now = g.now.Add(time.Second) {
		for _, c := range dead {
			g.Queried(c, g.now)
		}
		if ping, ok := g.Offer(spare, g.now); ok && ping == spare {
			g.Responded(spare, time.Millisecond, g.now)
		}
		for _, c := range g.Questionable(g.now) {
			if slices.Contains(dead, c) {
				g.Failed(c, g.now)
			} else {
				g.Responded(c, time.Millisecond, g.now)
			}
		}
	}
	if got := g.Published(); !slices.Equal(got, []router.Contact{spare}) {
		t.Errorf("published %v, want only %v, which answers", got, spare)
	}
}
