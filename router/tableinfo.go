package router

import (
	"net/netip"
	"slices"
	"time"
)

// LevelStat counts the contacts of one level of the table.
type LevelStat struct {
	PrefixLen    int // leading bits shared with our ID
	Buckets      int // that have contacts
	Full         int // that have as many as they can
	Good         int
	Questionable int
	Bad          int
	Replacement  int // in the replacement cache
}

// Entry is what the table knows of a contact.
type Entry struct {
	Contact
	State    State
	Cached   bool          // waits in the replacement cache
	Since    time.Time     // first answer
	Answered time.Time     // last answer
	Failures int           // queries unanswered since
	RTT      time.Duration // smoothed
	Claim    ID            // the ID that its address last answered with, if another
}

// Len returns the number of contacts, without the replacement caches.
func (t *Table) Len() (n int) {
	t.eachBucket(func(_ int, b *bucket) { n += b.n })
	return n
}

// Good returns the number of good contacts, without the replacement caches.
func (t *Table) Good(now time.Time) (n int) {
	for _, s := range t.Levels(now) {
		n += s.Good
	}
	return n
}

// Levels returns the counts of the levels that are not empty, farthest first.
func (t *Table) Levels(now time.Time) (stats []LevelStat) {
	t.eachBucket(func(level int, b *bucket) {
		if b.n == 0 && len(b.cache) == 0 {
			return
		}
		if len(stats) == 0 || stats[len(stats)-1].PrefixLen != level {
			stats = append(stats, LevelStat{PrefixLen: level})
		}
		s := &stats[len(stats)-1]
		s.Replacement += len(b.cache)
		if b.n > 0 {
			s.Buckets++
		}
		if b.n == bucketSize {
			s.Full++
		}
		good, questionable, bad := b.states(now)
		s.Good += good
		s.Questionable += questionable
		s.Bad += bad
	})
	return stats
}

// BucketStat counts the contacts of one bucket of the table.
type BucketStat struct {
	PrefixLen    int // of its level: leading bits shared with our ID
	Number       int // within the level: the bits behind the first one that differs, see [Table]
	Good         int
	Questionable int
	Bad          int
	Replacement  int // in the replacement cache
}

// Buckets returns the counts of the buckets that are not empty, in table order.
func (t *Table) Buckets(now time.Time) (stats []BucketStat) {
	level, number := -1, 0
	t.eachBucket(func(l int, b *bucket) {
		if number++; l != level {
			level, number = l, 0
		}
		if b.n == 0 && len(b.cache) == 0 {
			return
		}
		s := BucketStat{PrefixLen: l, Number: number, Replacement: len(b.cache)}
		s.Good, s.Questionable, s.Bad = b.states(now)
		stats = append(stats, s)
	})
	return stats
}

// states counts the contacts of a bucket by their states.
func (b *bucket) states(now time.Time) (good, questionable, bad int) {
	b.each(func(e *entry) {
		switch e.state(now) {
		case Good:
			good++
		case Questionable:
			questionable++
		default:
			bad++
		}
	})
	return good, questionable, bad
}

// Bits returns b, see [Table].
func (t *Table) Bits() int { return t.config.Bits }

// each calls f for the contacts in slots, in table order.
func (t *Table) each(f func(*entry)) {
	t.eachBucket(func(_ int, b *bucket) { b.each(f) })
}

// Entries returns all contacts in table order, each bucket's cached ones last.
func (t *Table) Entries(now time.Time) (all []Entry) {
	add := func(e *entry) {
		all = append(all, Entry{e.Contact, e.state(now), e.cached, e.since, e.answered, e.failures, e.rtt, e.claim})
	}
	t.eachBucket(func(_ int, b *bucket) {
		b.each(add)
		for _, e := range b.cache {
			add(e)
		}
	})
	return all
}

// Contacts returns all contacts, those in slots first and of these the best proven, for saving. Loaded again they
// are candidates like any other: pass them to [Table.Offer].
func (t *Table) Contacts() (all []Contact) {
	var slots, cached []*entry
	t.each(func(e *entry) { slots = append(slots, e) })
	slices.SortStableFunc(slots, func(a, b *entry) int {
		if a.failures != b.failures {
			return a.failures - b.failures
		}
		return a.since.Compare(b.since)
	})
	t.eachBucket(func(_ int, b *bucket) { cached = append(cached, b.cache...) })
	for _, e := range append(slots, cached...) {
		all = append(all, e.Contact)
	}
	return all
}

// At returns the contact at an address, cached ones too.
func (t *Table) At(a netip.AddrPort) (c Contact, known bool) {
	if e := t.byAddr[t.key(a.Addr())]; e != nil && e.Addr == a {
		return e.Contact, true
	}
	return Contact{}, false
}

// Published returns the contacts fit to hand out: those that left no query unanswered since they last answered. The
// order, by bucket and then by slot, changes only with the contacts themselves.
func (t *Table) Published() []Contact {
	fit := make([]Contact, 0, t.Len())
	t.each(func(e *entry) {
		if e.failures == 0 {
			fit = append(fit, e.Contact)
		}
	})
	return fit
}

// Closest returns the n contacts closest to target, closest first. Bad ones, and those whose address has last answered
// under another ID, come last, and only to make up the number.
func (t *Table) Closest(target ID, n int) []Contact {
	type candidate struct {
		e    *entry
		dist words
		bad  bool
	}
	var all []candidate
	w := wordsOf(&target)
	t.each(func(e *entry) {
		all = append(all, candidate{e, wordsOf(&e.ID).xor(w), e.bad() || !e.claim.IsZero()})
	})
	slices.SortFunc(all, func(a, b candidate) int {
		if a.bad != b.bad {
			if a.bad {
				return 1
			}
			return -1
		}
		return int(b.dist.less(&a.dist)) - int(a.dist.less(&b.dist))
	})
	all = all[:min(n, len(all))]
	closest := make([]Contact, len(all))
	for i := range all {
		closest[i] = all[i].e.Contact
	}
	return closest
}
