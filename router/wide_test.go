package router_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router"
)

// inBucket returns a random ID in a bucket of a table with b bits to a level.
func inBucket(r *rand.Rand, self router.ID, level, number, b int) router.ID {
	id := sharing(r, self, level)
	for i := level + 1; i < min(level+b, 160); i++ {
		id = withBit(id, i, number>>(level+b-1-i)&1 == 1)
	}
	return id
}

// answers makes a new contact of a bucket answer.
func (g *tableRig) answers(level, number int) (c router.Contact, changed bool) {
	c = router.Contact{ID: inBucket(g.r, g.Self(), level, number, g.Bits()), Addr: g.addr()}
	return c, g.Responded(c, time.Millisecond, g.now)
}

// Whoever makes up IDs close to ours has no influence on the contacts of the first levels, and the number of buckets is bounded.
func TestDeepBucketsGiveWay(t *testing.T) {
	for b := 1; b <= bpf.MaxBits; b++ {
		t.Run(fmt.Sprintf("b=%d", b), func(t *testing.T) {
			g := newWideRig(t, true, b)
			for level := 159 - b; level >= 60; level-- { // the attacker is there first
				for number := range 1 << (b - 1) {
					g.answers(level, number)
				}
			}
			safe := min(bpf.MaxBuckets>>(b-1), 60)
			var honest []router.Contact
			for level := safe - 1; level >= 0; level-- {
				for number := range 1 << (b - 1) {
					c, changed := g.answers(level, number)
					if !changed {
						t.Fatalf("no room in bucket %d of level %d", number, level)
					}
					honest = append(honest, c)
				}
			}
			for level := 60; level < 160-b; level++ {
				for number := range 1 << (b - 1) {
					g.answers(level, number)
				}
			}
			used := 0
			for _, l := range g.Levels(g.now) {
				used += l.Buckets
			}
			if want := min(bpf.MaxBuckets, (160-60-b+safe)<<(b-1)); used != want {
				t.Errorf("%d buckets have contacts, want %d", used, want)
			}
			published := g.Published()
			for _, c := range honest {
				if !slices.Contains(published, c) {
					t.Errorf("a contact that shares %d bits with us has given way", router.PrefixLen(c.ID, g.Self()))
				}
			}
			s := router.NewSnapshot(g.Table, nil, [16]byte{})
			if _, err := router.NewView(s); err != nil {
				t.Error(err)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			c := router.Contact{ID: inBucket(g.r, g.Self(), 158, 0, b), Addr: g.addr()}
			_, want := g.Offer(c, g.now)
			if full := used == bpf.MaxBuckets; want == full {
				t.Errorf("with %d buckets a newcomer close to us is worth a ping: %v", used, want)
			}
		})
	}
}

// network is a network of nodes with random IDs, as far as one node can come to know them.
func network(r *rand.Rand, nodes int) (all []router.Contact) {
	for i := range nodes {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000001+uint32(i))
		all = append(all, router.Contact{ID: randomID(r), Addr: netip.AddrPortFrom(netip.AddrFrom4(a), 6881)})
	}
	return all
}

// TestWideTableRefresh fills tables in a large network by what they want looked up, as a node does: each lookup has the 8
// closest answer. All buckets that can be full are within a few rounds, and from then on no lookups are needed while the
// contacts answer.
func TestWideTableRefresh(t *testing.T) {
	const nodes = 50_000
	r := rand.New(rand.NewPCG(9, 1))
	all := network(r, nodes)
	// Sorted, so that the nodes around a target are next to its place.
	slices.SortFunc(all, func(a, b router.Contact) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for b := 1; b <= bpf.MaxBits; b++ {
		g := newWideRig(t, true, b)
		lookup := func(target router.ID) {
			at, _ := slices.BinarySearchFunc(all, target, func(c router.Contact, id router.ID) int { return slices.Compare(c.ID[:], id[:]) })
			near := slices.Clone(all[max(0, at-64):min(len(all), at+64)])
			slices.SortFunc(near, func(a, b router.Contact) int {
				da, db := router.Distance(target, a.ID), router.Distance(target, b.ID)
				return slices.Compare(da[:], db[:])
			})
			for _, c := range near[:8] {
				g.Responded(c, time.Millisecond, g.now)
			}
		}
		lookup(g.Self())
		lookups := 0
		for range 100 {
			targets := g.RefreshTargets(g.now)
			if len(targets) > 16 {
				t.Errorf("b = %d: %d lookups at a time", b, len(targets))
			}
			for _, id := range targets {
				lookup(id)
			}
			lookups += len(targets)
			g.now = g.now.Add(5 * time.Second)
		}
		// Level i has nodes/2^(i+1) nodes; with 3 times as many as there are places, all are taken.
		for _, l := range g.Levels(g.now) {
			if nodes>>(l.PrefixLen+1) >= 3*8<<(b-1) && l.Full != 1<<(b-1) {
				t.Errorf("b = %d: level %+v is not full", b, l)
			}
		}
		if most := 20 << (b - 1); lookups > most {
			t.Errorf("b = %d: %d lookups, want at most %d", b, lookups, most)
		}
		// In the next hour the contacts answer when they are pinged.
		pings, again := 0, 0
		for range 720 {
			for _, c := range g.Questionable(g.now) {
				g.Responded(c, time.Millisecond, g.now)
				pings++
			}
			for _, id := range g.RefreshTargets(g.now) {
				lookup(id)
				again++
			}
			g.now = g.now.Add(5 * time.Second)
		}
		t.Logf("b = %d: %d contacts after %d lookups; in an hour %d pings, %d lookups", b, g.Len(), lookups, pings, again)
		if most := 4 * (g.Len() + 100); pings > most {
			t.Errorf("b = %d: %d pings in an hour for %d contacts", b, pings, g.Len())
		}
		if most := 32; again > most {
			t.Errorf("b = %d: %d lookups in an hour, want at most %d", b, again, most)
		}
	}
}
