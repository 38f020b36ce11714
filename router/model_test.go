package router_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// model is the table without its data structures: a list of contacts and the rules read off BEP 5. It covers
// contacts with one address and one ID each, in a private network.
type model struct {
	self     router.ID
	bits     int
	all      []*modelContact
	answered time.Time
}

type modelContact struct {
	router.Contact
	slot                   int // -1 = in the cache
	since, answered, asked time.Time
	failures               int
}

const quarter = 15 * time.Minute

func (c *modelContact) bad() bool {
	return c.failures >= 3 || c.failures == 2 && c.answered.Sub(c.since) < time.Hour
}

func (c *modelContact) state(now time.Time) router.State {
	switch answered, asked := now.Sub(c.answered), now.Sub(c.asked); {
	case c.bad():
		return router.Bad
	case c.failures == 0 && (answered <= quarter || asked <= quarter && answered <= time.Hour):
		return router.Good
	}
	return router.Questionable
}

func (m *model) find(c router.Contact) *modelContact {
	for _, e := range m.all {
		if e.Contact == c {
			return e
		}
	}
	return nil
}

// bucket returns the contacts of c's bucket that pass a test.
func (m *model) bucket(c router.Contact, keep func(*modelContact) bool) (b []*modelContact) {
	for _, e := range m.all {
		if bucketOf(m.self, e.ID, m.bits) == bucketOf(m.self, c.ID, m.bits) && keep(e) {
			b = append(b, e)
		}
	}
	return b
}

func (m *model) remove(c *modelContact) {
	m.all = slices.DeleteFunc(m.all, func(e *modelContact) bool { return e == c })
}

func (m *model) responded(c router.Contact, now time.Time) {
	m.answered = now
	e := m.find(c)
	if e == nil {
		e = &modelContact{Contact: c, slot: -1, since: now}
	}
	e.answered, e.failures = now, 0
	if e.slot >= 0 {
		return
	}
	m.remove(e)
	slots := m.bucket(c, func(e *modelContact) bool { return e.slot >= 0 })
	for slot := range 8 {
		if !slices.ContainsFunc(slots, func(e *modelContact) bool { return e.slot == slot }) {
			e.slot = slot
			m.all = append(m.all, e)
			return
		}
	}
	bad := slices.DeleteFunc(slots, func(e *modelContact) bool { return !e.bad() })
	if len(bad) > 0 {
		slices.SortFunc(bad, func(a, b *modelContact) int {
			return cmp.Or(b.failures-a.failures, a.slot-b.slot)
		})
		e.slot = bad[0].slot
		m.remove(bad[0])
		m.all = append(m.all, e)
		return
	}
	cache := m.bucket(c, func(e *modelContact) bool { return e.slot < 0 })
	if len(cache) == 8 {
		oldest := slices.MinFunc(cache, func(a, b *modelContact) int { return a.answered.Compare(b.answered) })
		if now.Sub(oldest.answered) <= quarter {
			return
		}
		m.remove(oldest)
	}
	m.all = append(m.all, e)
}

func (m *model) queried(c router.Contact, now time.Time) {
	if e := m.find(c); e != nil {
		e.asked = now
	}
}

func (m *model) failed(c router.Contact, now time.Time) {
	e := m.find(c)
	if e == nil {
		return
	}
	e.failures++
	if e.slot < 0 {
		m.remove(e)
		return
	}
	if !e.bad() {
		return
	}
	spares := m.bucket(c, func(e *modelContact) bool { return e.slot < 0 && now.Sub(e.answered) <= quarter })
	if len(spares) > 0 {
		latest := slices.MaxFunc(spares, func(a, b *modelContact) int { return a.answered.Compare(b.answered) })
		latest.slot = e.slot
		m.remove(e)
	} else if e.failures >= 8 && now.Sub(m.answered) <= quarter {
		m.remove(e)
	}
}

// entries shows the model as the table shows itself, by address.
func (m *model) entries(now time.Time) (all []router.Entry) {
	for _, e := range m.all {
		all = append(all, router.Entry{
			Contact: e.Contact, State: e.state(now), Cached: e.slot < 0,
			Since: e.since, Answered: e.answered, Failures: e.failures, RTT: time.Millisecond,
		})
	}
	return sortEntries(all)
}

func sortEntries(all []router.Entry) []router.Entry {
	slices.SortFunc(all, func(a, b router.Entry) int { return a.Addr.Compare(b.Addr) })
	return all
}

// inFewBuckets returns a random ID in the first or the last bucket of a level.
func inFewBuckets(r *rand.Rand, self router.ID, level, b int) router.ID {
	id := sharing(r, self, level)
	side := level%2 == 0 && r.IntN(2) == 0
	for i := level + 1; i < level+b; i++ {
		id = withBit(id, i, side)
	}
	return id
}

func TestTableFollowsModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 5))
		g := newWideRig(t, true, 1+int(seed%bpf.MaxBits))
		m := &model{self: g.Self(), bits: g.Bits()}
		// Few buckets and many contacts, so that slots and caches overflow.
		known := make([]router.Contact, 60)
		for i := range known {
			known[i] = router.Contact{ID: inFewBuckets(r, g.Self(), r.IntN(3), g.Bits()), Addr: g.addr()}
		}
		silent := make(map[router.Contact]bool)
		for step := range 3000 {
			g.now = g.now.Add(time.Duration(1 + r.ExpFloat64()*float64(10*time.Second)))
			c := known[r.IntN(len(known))]
			op := r.IntN(10)
			switch {
			case op == 0:
				m.queried(c, g.now)
				g.Queried(c, g.now)
			case op == 1:
				silent[c] = !silent[c]
			case silent[c] || step/500 == 3: // for a while everybody is
				m.failed(c, g.now)
				g.Failed(c, g.now)
			default:
				m.responded(c, g.now)
				g.Responded(c, time.Millisecond, g.now)
			}
			if got, want := sortEntries(g.Entries(g.now)), m.entries(g.now); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d:\n got %v\nwant %v", seed, step, got, want)
			}
		}
	}
}

// hostileStep does one random thing to a table. It says what, and whether the table said that it changed.
func hostileStep(r *rand.Rand, table *router.Table, c router.Contact, now time.Time) (op string, changed bool) {
	switch r.IntN(12) {
	case 0, 1, 2, 3, 4:
		return "Responded", table.Responded(c, time.Millisecond, now)
	case 5, 6:
		return "Failed", table.Failed(c, now)
	case 7:
		table.Offer(c, now)
		return "Offer", false
	case 8:
		table.Queried(c, now)
		return "Queried", false
	case 9:
		table.Questionable(now)
		return "Questionable", false
	case 10:
		table.RefreshTargets(now)
		return "RefreshTargets", false
	default:
		if r.IntN(50) > 0 {
			return "nothing", false
		}
		old := table.Published()
		table.SetSelf(sharing(r, table.Self(), r.IntN(160)))
		return "SetSelf", !slices.Equal(old, table.Published())
	}
}

func TestTableInvariants(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 6))
		family, private := router.Family(seed%2), seed%4 < 2
		table := router.NewTable(router.TableConfig{Self: randomID(r), Family: family, Private: private, Bits: 1 + int(seed%bpf.MaxBits)})
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		ids := make([]router.ID, 60)
		for i := range ids {
			ids[i] = inFewBuckets(r, table.Self(), r.IntN(4), table.Bits())
		}
		contact := func() (c router.Contact) {
			var a netip.Addr
			if n := byte(r.IntN(50)); family == router.IPv4 {
				a = netip.AddrFrom4([4]byte{198, 18, 0, n})
			} else {
				a = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 7: n, 15: byte(1 + r.IntN(2))})
			}
			c = router.Contact{ID: ids[r.IntN(len(ids))], Addr: netip.AddrPortFrom(a, uint16(6881+r.IntN(10)/9))}
			if r.IntN(4) == 0 {
				c.ID = krpc.NodeIDFor(a, byte(r.IntN(8)), c.ID)
			}
			return c
		}
		answered := make(map[router.Contact]bool)
		for step := range 4000 {
			now = now.Add(time.Duration(r.ExpFloat64() * float64(5*time.Second)))
			c := contact()
			if e := table.Entries(now); len(e) > 0 && r.IntN(2) == 0 {
				c = e[r.IntN(len(e))].Contact
			}
			before, published := table.Entries(now), table.Published()
			op, changed := hostileStep(r, table, c, now)
			if op == "Responded" {
				answered[c] = true
			}
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("seed %d, step %d, %s(%v): %s", seed, step, op, c, fmt.Sprintf(format, args...))
			}
			if differs := !slices.Equal(published, table.Published()); differs != changed {
				fail("says changed = %v, but the published contacts differ = %v", changed, differs)
			}
			checkTable(table, family, private, answered, now, fail)
			if op == "SetSelf" {
				continue
			}
			after := make(map[router.Contact]router.Entry)
			for _, e := range table.Entries(now) {
				after[e.Contact] = e
			}
			for _, e := range before {
				now, ok := after[e.Contact]
				kept := ok && !now.Cached
				preferred := op == "Responded" && !private && krpc.ValidNodeID(c.ID, c.Addr.Addr()) && !krpc.ValidNodeID(e.ID, e.Addr.Addr())
				if e.State == router.Good && !e.Cached && !kept && !preferred {
					fail("good contact %v was pushed out", e)
				}
			}
		}
	}
}

func checkTable(table *router.Table, family router.Family, private bool, answered map[router.Contact]bool, now time.Time, fail func(string, ...any)) {
	ids, addrs := make(map[router.ID]bool), make(map[netip.Addr]bool)
	slots, cached, level := make(map[[2]int]int), make(map[[2]int]int), make(map[int]router.LevelStat)
	var inSlots []router.Contact
	var bad []router.Contact
	good := 0
	for _, e := range table.Entries(now) {
		if !answered[e.Contact] {
			fail("%v is there and never answered", e)
		}
		if e.ID == table.Self() || !router.Usable(e.Addr, private) || router.FamilyOf(e.Addr.Addr()) != family {
			fail("%v is there", e)
		}
		key := e.Addr.Addr()
		if key.Is6() && !private {
			key = netip.PrefixFrom(key, 64).Masked().Addr()
		}
		if ids[e.ID] || addrs[key] {
			fail("%v has the ID or address of another", e)
		}
		ids[e.ID], addrs[key] = true, true
		at := bucketOf(table.Self(), e.ID, table.Bits())
		l := level[at[0]]
		l.PrefixLen = at[0]
		if e.Cached {
			cached[at]++
			l.Replacement++
			level[at[0]] = l
			continue
		}
		slots[at]++
		if slots[at] == 1 {
			l.Buckets++
		}
		if slots[at] == 8 {
			l.Full++
		}
		switch e.State {
		case router.Good:
			l.Good++
		case router.Questionable:
			l.Questionable++
		default:
			l.Bad++
		}
		level[at[0]] = l
		if e.State == router.Bad || !e.Claim.IsZero() {
			bad = append(bad, e.Contact)
		} else {
			inSlots = append(inSlots, e.Contact)
		}
		if e.State == router.Good {
			good++
		}
	}
	total := len(inSlots) + len(bad)
	if table.Len() != total || table.Good(now) != good {
		fail("Len %d, Good %d; want %d, %d", table.Len(), table.Good(now), total, good)
	}
	for at, n := range slots {
		if n > 8 || cached[at] > 8 {
			fail("bucket %v has %d contacts and %d spares", at, n, cached[at])
		}
	}
	if len(slots) > bpf.MaxBuckets {
		fail("%d buckets have contacts", len(slots))
	}
	if len(table.Levels(now)) != len(level) {
		fail("%d levels, want %d", len(table.Levels(now)), len(level))
	}
	for _, l := range table.Levels(now) {
		if l != level[l.PrefixLen] {
			fail("level %+v, want %+v", l, level[l.PrefixLen])
		}
	}
	sums := make(map[int]router.LevelStat)
	for _, b := range table.Buckets(now) {
		at := [2]int{b.PrefixLen, b.Number}
		if n := b.Good + b.Questionable + b.Bad; n != slots[at] || b.Replacement != cached[at] {
			fail("bucket %+v, want %d contacts and %d spares", b, slots[at], cached[at])
		}
		s := sums[b.PrefixLen]
		s.Good, s.Questionable, s.Bad = s.Good+b.Good, s.Questionable+b.Questionable, s.Bad+b.Bad
		sums[b.PrefixLen] = s
	}
	for i, l := range level {
		if s := sums[i]; s.Good != l.Good || s.Questionable != l.Questionable || s.Bad != l.Bad {
			fail("buckets of level %d come to %+v, want %+v", i, s, l)
		}
	}
	target := table.Self()
	target[0] ^= byte(now.Nanosecond())
	nearer := func(a, b router.Contact) int {
		da, db := router.Distance(target, a.ID), router.Distance(target, b.ID)
		return bytes.Compare(da[:], db[:])
	}
	slices.SortFunc(inSlots, nearer)
	slices.SortFunc(bad, nearer)
	want := append(inSlots, bad...)
	want = want[:min(5, len(want))]
	if got := table.Closest(target, 5); !slices.Equal(got, want) {
		fail("Closest(%v) = %v, want %v", target, got, want)
	}
	t4, t6 := table, (*router.Table)(nil)
	if family == router.IPv6 {
		t4, t6 = nil, table
	}
	if _, err := router.NewView(router.NewSnapshot(t4, t6, [16]byte{})); err != nil {
		fail("%v", err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		r := rand.New(rand.NewPCG(seed, 7))
		table := router.NewTable(router.TableConfig{Self: randomID(r), Private: seed%2 == 0, Bits: 1 + int(seed%bpf.MaxBits)})
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		answered := make(map[router.Contact]bool)
		for i, b := range script[:min(500, len(script))] {
			now = now.Add(time.Duration(b) * time.Second)
			c := router.Contact{
				ID:   withBit(table.Self(), 155+int(b>>5)%5, b&16 == 0),
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, b & 15}), 6881),
			}
			published := table.Published()
			op, changed := hostileStep(r, table, c, now)
			answered[c] = answered[c] || op == "Responded"
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("step %d, %s(%v): %s", i, op, c, fmt.Sprintf(format, args...))
			}
			if differs := !slices.Equal(published, table.Published()); differs != changed {
				fail("says changed = %v, but the published contacts differ = %v", changed, differs)
			}
			checkTable(table, router.IPv4, seed%2 == 0, answered, now, fail)
		}
	})
}
