package router

import (
	"crypto/rand"
	"io"
	"net/netip"
	"slices"
	"time"

	"kdht/bpf"
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
	Bits    int  // b, 1 to 5, see [Table]; 0 means 1
	// Rand is where the IDs of [Table.RefreshTargets] are drawn from, for simulations; nil: from crypto/rand.
	Rand io.Reader
}

// Table is the routing table of one family. Its 160 levels are the numbers of leading bits that a contact can share with our
// own ID. Level i is divided into 2^(b-1) buckets by the b-1 bits that follow bit i in the contact's ID, so that the table
// tells IDs apart b bits at a time (Kademlia, "accelerated lookups"); with b = 1 a level is a bucket, as in BEP 5. Each
// bucket has up to 8 contacts and a replacement cache of 8.
//
// With a larger b the table knows more of the network: in one of N nodes about 8*2^(b-1)*log2(N/2^(b+3)) contacts. The
// contacts that it names to somebody share b bits more with the target than we do, and 3 that the 8 of a bucket
// give by their number, so that fewer hops lead there. What that costs is a ping per contact and quarter of an hour at most
// (BEP 5), a lookup for each bucket that is not full, and memory.
//
// At most 512 buckets have contacts ([bpf.MaxBuckets]), which is more than any network fills; whoever makes up IDs close to
// ours could fill more. Beyond that, those of the deepest level give way, so that with b = 5 the first 32 levels have room
// in any case, and with less more.
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
	levels   [idBits][]bucket      // nil until something is in them
	used     int                   // buckets that have contacts in slots
	byAddr   map[netip.Addr]*entry // by uniqueness key; slots and caches
	offered  recent
	answered time.Time // last answer from anybody
}

// NewTable returns an empty table.
func NewTable(c TableConfig) *Table {
	c.Bits = min(max(c.Bits, 1), maxLevelBits)
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
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
	t.eachBucket(func(_ int, b *bucket) { all = append(all, b.cache...) })
	t.config.Self = id
	t.levels, t.used = [idBits][]bucket{}, 0
	clear(t.byAddr)
	for _, e := range all {
		if e.ID == id {
			continue
		}
		b := t.bucket(e.ID)
		if !t.makeRoom(b, e.ID) {
			continue
		}
		if i := slices.Index(b.slots[:], nil); i >= 0 && (!e.cached || e.fresh(t.answered)) {
			e.cached = false
			t.assign(b, i, e)
		} else if len(b.cache) < bucketSize && e.failures == 0 {
			e.cached = true
			b.cache = append(b.cache, e)
		} else {
			continue
		}
		t.byAddr[e.key] = e
	}
	t.eachBucket(func(_ int, b *bucket) {
		slices.SortStableFunc(b.cache, func(a, b *entry) int { return a.answered.Compare(b.answered) })
	})
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
		if !t.hasRoom(b, c.ID) || !b.pace(roomPings, now) {
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
	if !t.makeRoom(b, e.ID) {
		delete(t.byAddr, e.key)
		return false
	}
	old := b.slots[i]
	t.assign(b, i, e)
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
	next := b.candidate(now)
	t.assign(b, i, next)
	if next == nil {
		return e.failures == 0
	}
	b.uncache(next)
	next.cached = false
	return true
}

// assign puts a contact, or nobody if nil, into a slot of a bucket.
func (t *Table) assign(b *bucket, i int, e *entry) {
	if b.n > 0 {
		t.used--
	}
	if b.assign(i, e); b.n > 0 {
		t.used++
	}
}

// hasRoom reports whether a contact may have a slot of its bucket, as far as that is a matter of how many buckets have
// contacts.
func (t *Table) hasRoom(b *bucket, id ID) bool {
	return t.used < bpf.MaxBuckets || b.n > 0 || t.deepest() > PrefixLen(t.config.Self, id)
}

// makeRoom does what hasRoom asks about: a bucket of the deepest level, the one with the fewest contacts, is given up if need be
// and the contact belongs to a level before it.
func (t *Table) makeRoom(b *bucket, id ID) bool {
	if !t.hasRoom(b, id) {
		return false
	}
	if t.used < bpf.MaxBuckets || b.n > 0 {
		return true
	}
	var least *bucket
	level := t.levels[t.deepest()]
	for i := range level {
		if n := level[i].n; n > 0 && (least == nil || n < least.n) {
			least = &level[i]
		}
	}
	least.each(func(e *entry) { delete(t.byAddr, e.key) })
	for _, e := range least.cache {
		delete(t.byAddr, e.key)
	}
	*least = bucket{touched: least.touched, refilled: least.refilled, paced: least.paced, pings: least.pings}
	t.used--
	return true
}

// deepest returns the last level that has contacts in slots, -1 if none has.
func (t *Table) deepest() int {
	for i := len(t.levels) - 1; i >= 0; i-- {
		for j := range t.levels[i] {
			if t.levels[i][j].n > 0 {
				return i
			}
		}
	}
	return -1
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
func (t *Table) bucket(id ID) *bucket {
	level, number := bucketOf(t.config.Self, id, t.config.Bits)
	if t.levels[level] == nil {
		t.levels[level] = make([]bucket, 1<<(t.config.Bits-1))
	}
	return &t.levels[level][number]
}

// eachBucket calls f for every bucket that may have contacts, in table order: by level, and by number in it.
func (t *Table) eachBucket(f func(level int, b *bucket)) {
	for i := range t.levels {
		for j := range t.levels[i] {
			f(i, &t.levels[i][j])
		}
	}
}

// key returns what a node is unique by: the IPv4 address, or the IPv6 /64, which one subscriber has to itself.
func (t *Table) key(a netip.Addr) netip.Addr {
	if a.Is4() || t.config.Private {
		return a
	}
	p, _ := a.Prefix(64) // 64 is within range
	return p.Addr()
}

// randomIn returns a random ID of a level, and there of the bucket that has a number; of any if that is -1.
func (t *Table) randomIn(level, number int) (id ID) {
	if _, err := io.ReadFull(t.config.Rand, id[:]); err != nil {
		_, _ = rand.Read(id[:]) // never fails
	}
	for i := range level + t.config.Bits {
		if i == idBits || i > level && number < 0 {
			break
		}
		bit := t.config.Self[i/8] >> (7 - i%8) & 1
		if i == level {
			bit ^= 1
		} else if i > level {
			bit = byte(number >> (level + t.config.Bits - 1 - i) & 1)
		}
		id[i/8] = id[i/8]&^(0x80>>(i%8)) | bit<<(7-i%8)
	}
	return id
}
