package router

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"kdht/router/krpc"
)

// Limits on the pings that sightings and referrals cause.
const (
	roomPings  = 2 * bucketSize // per bucket and second, while the bucket has room
	cachePings = 1              // per bucket and second, to fill the replacement cache
)

// TableConfig says whose routing table it is.
type TableConfig struct {
	Self    ID
	Family  Family
	Private bool // a private network: any unicast address, IPv6 nodes unique by address, BEP 42 does not apply
}

// Table is the routing table of one family: 160 buckets by the number of leading bits shared with our own ID, each
// with up to 8 contacts and a replacement cache of 8.
//
// A contact enters only by answering a query of ours ([Table.Responded]); nothing that others say about a node, and
// no query, which may be forged, can put it there or push another out. Contacts give way only when bad, or, in the
// public network, to one whose ID follows BEP 42 if theirs does not. There is one contact per IPv4 address and per
// IPv6 /64 (per address in a private network), and one per ID.
//
// The table sends nothing: it says whom to ping, and is told what came of it. It is not safe for concurrent use.
// Times must not run backwards.
type Table struct {
	config   TableConfig
	buckets  [idBits]bucket
	byAddr   map[netip.Addr]*entry // by uniqueness key; slots and caches
	offered  recent
	answered time.Time // last answer from anybody
}

// NewTable returns an empty table.
func NewTable(c TableConfig) *Table {
	return &Table{config: c, byAddr: make(map[netip.Addr]*entry), offered: newRecent()}
}

// Self returns our own ID.
func (t *Table) Self() ID { return t.config.Self }

// SetSelf changes our own ID and sorts the contacts into buckets anew. Of those that find no room in their new
// bucket or its cache, the least proven are dropped.
func (t *Table) SetSelf(id ID) {
	if id == t.config.Self {
		return
	}
	var all []*entry
	t.each(func(e *entry) { all = append(all, e) })
	slices.SortStableFunc(all, func(a, b *entry) int {
		switch {
		case lessProven(b, a):
			return -1
		case lessProven(a, b):
			return 1
		}
		return 0
	})
	for i := range t.buckets {
		all = append(all, t.buckets[i].cache...)
	}
	t.config.Self = id
	t.buckets = [idBits]bucket{}
	clear(t.byAddr)
	for _, e := range all {
		if e.ID == id {
			continue
		}
		b := t.bucket(e.ID)
		if i := slices.Index(b.slots[:], nil); i >= 0 && (!e.cached || e.fresh(t.answered)) {
			e.cached = false
			b.slots[i] = e
		} else if len(b.cache) < bucketSize && e.failures == 0 {
			e.cached = true
			b.cache = append(b.cache, e)
		} else {
			continue
		}
		t.byAddr[e.key] = e
	}
	for i := range t.buckets {
		slices.SortStableFunc(t.buckets[i].cache, func(a, b *entry) int { return a.answered.Compare(b.answered) })
	}
}

// Offer considers a contact that somebody mentioned or that sent us a query. If a ping would serve the table it
// returns the contact to ping, which may be another: the old one that stands in the newcomer's way. Saying so
// counts as the ping: for the next minutes the answer about this address will be no. So ask only when there is
// leave to send.
func (t *Table) Offer(c Contact, now time.Time) (ping Contact, want bool) {
	if !t.acceptable(c) {
		return Contact{}, false
	}
	b := t.bucket(c.ID)
	for _, e := range []*entry{t.byAddr[t.key(c.Addr.Addr())], b.find(c.ID)} {
		if e == nil {
			continue
		}
		if e.Contact == c || !t.yields(e, c, now) {
			return e.check(now)
		}
	}
	switch {
	case b.slotFor(t.secure(c)) >= 0:
		if !b.pace(roomPings, now) {
			return Contact{}, false
		}
	default:
		if b.candidate(now) != nil {
			if e := b.oldestDue(now); e != nil {
				return e.check(now)
			}
		}
		if len(b.cache) == bucketSize && b.spare(t.secure(c), now) == nil || !b.pace(cachePings, now) {
			return Contact{}, false
		}
	}
	if !t.offered.add(t.key(c.Addr.Addr()), now) {
		return Contact{}, false
	}
	return c, true
}

// check hands out a contact to be pinged if it is due.
func (e *entry) check(now time.Time) (Contact, bool) {
	if !e.due(now) {
		return Contact{}, false
	}
	e.checked = now
	return e.Contact, true
}

// Claimed returns the contact to ping at once because its address has just answered, for the first time, under another
// ID than the table knows it by. With a second such answer the new ID takes the place of the old one.
func (t *Table) Claimed(a netip.AddrPort) (c Contact, ping bool) {
	e := t.byAddr[t.key(a.Addr())]
	if e == nil || e.Addr != a || e.claim.IsZero() || e.failures != 1 {
		return Contact{}, false
	}
	return Contact{ID: e.claim, Addr: a}, true
}

// Responded records that a node answered one of our queries from the address that it was sent to: the only way
// into the table. It reports whether what is to be published changed.
func (t *Table) Responded(c Contact, rtt time.Duration, now time.Time) bool {
	if !t.acceptable(c) {
		return false
	}
	t.answered = now
	b := t.bucket(c.ID)
	changed := false
	if e := t.byAddr[t.key(c.Addr.Addr())]; e != nil {
		switch {
		case e.Contact == c:
			return t.refresh(e, rtt, now)
		case e.Addr == c.Addr && !e.cached && e.claim != c.ID:
			// One answer under another ID may be a forgery, or one of many from a node that shows each asker
			// another face. The old ID has failed; only the same new one, next time, takes its place.
			e.claim = c.ID
			return t.fail(e, now)
		case e.Addr == c.Addr || t.yields(e, c, now):
			changed = t.drop(e, now)
		default:
			return false
		}
	}
	if e := b.find(c.ID); e != nil {
		if !t.yields(e, c, now) {
			return changed
		}
		changed = t.drop(e, now) || changed
	}
	e := &entry{Contact: c, key: t.key(c.Addr.Addr()), secure: t.secure(c), since: now}
	e.refresh(rtt, now)
	b.touched = now
	return t.place(b, e, now) || changed
}

// Queried records that a node sent us a query. It matters for a contact of the table only: under the ID that we know it
// vouches for it, under another one it makes the contact due to be pinged.
func (t *Table) Queried(c Contact, now time.Time) {
	switch e := t.byAddr[t.key(c.Addr.Addr())]; {
	case e == nil:
	case e.Contact == c:
		e.asked = now
	case e.Addr == c.Addr:
		e.doubted = now
	}
}

// Failed records that a node left a query of ours unanswered, and reports whether what is to be published changed.
// Whatever ID it was asked under, the failure is that of the address.
func (t *Table) Failed(c Contact, now time.Time) bool {
	e := t.byAddr[t.key(c.Addr.Addr())]
	if e == nil || e.Addr != c.Addr {
		return false
	}
	e.checked = now
	return t.fail(e, now)
}

// yields reports whether contact e gives way to c, which claims the same address or the same ID and has answered:
// only if it is bad, or no more than a cached contact not heard of lately, or has, in the public network, no right
// to the ID.
func (t *Table) yields(e *entry, c Contact, now time.Time) bool {
	return e.bad() || e.cached && !e.fresh(now) || e.ID == c.ID && !e.secure && t.secure(c)
}

// refresh records an answer from a contact, and gives it a slot if it waits for one that has become free.
func (t *Table) refresh(e *entry, rtt time.Duration, now time.Time) bool {
	recovered := e.refresh(rtt, now)
	b := t.bucket(e.ID)
	b.touched = now
	if !e.cached {
		return recovered
	}
	b.uncache(e)
	return t.place(b, e, now)
}

// place puts a contact that is in neither into a slot or the cache of its bucket, and reports whether into a slot.
func (t *Table) place(b *bucket, e *entry, now time.Time) bool {
	i := b.slotFor(e.secure)
	if i < 0 {
		t.enqueue(b, e, now)
		return false
	}
	old := b.slots[i]
	b.slots[i] = e
	e.cached = false
	t.byAddr[e.key] = e
	if old != nil {
		delete(t.byAddr, old.key)
		if old.failures == 0 {
			t.enqueue(b, old, now)
		}
	}
	return true
}

// enqueue puts a contact that is in neither into the cache of its bucket, if there is room or one to give up.
func (t *Table) enqueue(b *bucket, e *entry, now time.Time) {
	if len(b.cache) == bucketSize {
		spare := b.spare(e.secure, now)
		if spare == nil {
			return
		}
		b.uncache(spare)
		delete(t.byAddr, spare.key)
	}
	e.cached = true
	t.byAddr[e.key] = e
	i := len(b.cache)
	for i > 0 && b.cache[i-1].answered.After(e.answered) {
		i--
	}
	b.cache = slices.Insert(b.cache, i, e)
}

// fail counts a failure of a contact. A bad one is replaced from the cache; without a replacement it stays,
// unpublished, and is tried again ever more rarely. It is given up in the end, but not while nobody answers: then
// the fault is ours.
func (t *Table) fail(e *entry, now time.Time) bool {
	e.failures++
	if e.cached {
		t.drop(e, now)
		return false
	}
	unpublished := e.failures == 1
	if !e.bad() {
		return unpublished
	}
	if t.bucket(e.ID).candidate(now) != nil || e.failures >= maxFailures && now.Sub(t.answered) <= freshFor {
		return t.drop(e, now) || unpublished
	}
	return unpublished
}

// drop removes a contact and fills its slot from the cache. It reports whether what is to be published changed.
func (t *Table) drop(e *entry, now time.Time) bool {
	b := t.bucket(e.ID)
	delete(t.byAddr, e.key)
	if e.cached {
		b.uncache(e)
		return false
	}
	i := slices.Index(b.slots[:], e)
	b.slots[i] = nil
	next := b.candidate(now)
	if next == nil {
		return e.failures == 0
	}
	b.uncache(next)
	next.cached = false
	b.slots[i] = next
	return true
}

// acceptable reports whether a contact could be in this table.
func (t *Table) acceptable(c Contact) bool {
	return c.ID != t.config.Self && !c.ID.IsZero() && c.Addr.Addr().Is4() == (t.config.Family == IPv4) && Usable(c.Addr, t.config.Private)
}

// secure reports whether the ID of a contact follows BEP 42, or need not.
func (t *Table) secure(c Contact) bool {
	return t.config.Private || krpc.ValidNodeID(c.ID, c.Addr.Addr())
}

// bucket returns the bucket of an ID other than our own.
func (t *Table) bucket(id ID) *bucket { return &t.buckets[PrefixLen(t.config.Self, id)] }

// key returns what a node is unique by: the IPv4 address, or the IPv6 /64, which one subscriber has to itself.
func (t *Table) key(a netip.Addr) netip.Addr {
	if a.Is4() || t.config.Private {
		return a
	}
	p, _ := a.Prefix(64) // 64 is within range
	return p.Addr()
}

// randomIn returns a random ID that shares exactly n leading bits with self.
func randomIn(self ID, n int) (id ID) {
	_, _ = rand.Read(id[:]) // never fails
	for i := range n / 8 {
		id[i] = self[i]
	}
	keep := byte(0xff) << (8 - n%8) // bits of byte n/8 that are shared
	flip := byte(0x80) >> (n % 8)
	id[n/8] = self[n/8]&keep | ^self[n/8]&flip | id[n/8]&^(keep|flip)
	return id
}
