package router

import "time"

// bucket holds the contacts whose IDs begin with the same bits, see [Table].
type bucket struct {
	// slots are the contacts. A contact keeps its slot for life, whatever is heard of it, so that a table in which
	// nobody comes or goes is published the same every time; the least recently seen is found by time.
	slots [bucketSize]*entry
	n     int // contacts in slots
	// cache holds contacts that answered when there was no slot for them, longest unheard of first.
	cache []*entry

	touched  time.Time // last answer from the bucket, or refresh of it
	refilled time.Time // last refresh of it for itself, whoever answered
	paced    time.Time // begin of the second that pings counts in
	pings    int       // newcomers that Offer let through in that second
}

// each calls f for the contacts in slots.
func (b *bucket) each(f func(*entry)) {
	if b.n == 0 {
		return
	}
	for _, e := range b.slots {
		if e != nil {
			f(e)
		}
	}
}

// assign puts a contact, or nobody if nil, into a slot. All changes of slots are made here.
func (b *bucket) assign(i int, e *entry) {
	if b.slots[i] != nil {
		b.n--
	}
	if b.slots[i] = e; e != nil {
		b.n++
	}
}

// find returns the contact, in a slot or the cache, that has an ID.
func (b *bucket) find(id ID) *entry {
	for _, e := range b.slots {
		if e != nil && e.ID == id {
			return e
		}
	}
	for _, e := range b.cache {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// slotFor returns the slot that a contact may have: an empty one, else that of the contact that failed most, if
// bad, else, for a contact whose ID follows BEP 42, that of the least proven one whose ID does not; else -1.
func (b *bucket) slotFor(secure bool) int {
	worst, insecure := -1, -1
	for i, e := range b.slots {
		if e == nil {
			return i
		}
		if e.bad() && (worst < 0 || e.failures > b.slots[worst].failures) {
			worst = i
		}
		if secure && !e.secure && (insecure < 0 || lessProven(e, b.slots[insecure])) {
			insecure = i
		}
	}
	if worst >= 0 {
		return worst
	}
	return insecure
}

// lessProven reports whether a deserves its place less than b: by failures, then by how long it has been known.
func lessProven(a, b *entry) bool {
	if a.failures != b.failures {
		return a.failures > b.failures
	}
	return a.since.After(b.since)
}

// candidate returns the cached contact that would take a slot that becomes free: one that answered lately, those
// whose ID follows BEP 42 first, then the latest. It returns nil if there is none.
func (b *bucket) candidate(now time.Time) (best *entry) {
	for _, e := range b.cache { // rising by time of last answer
		if e.fresh(now) && (best == nil || e.secure || !best.secure) {
			best = e
		}
	}
	return best
}

// spare returns the cached contact to give up for another: one not heard of lately, else, for a contact whose ID
// follows BEP 42, one whose ID does not; else nil. Contacts that still answer are not pushed out by newcomers,
// or whoever has many addresses could fill the cache at will.
func (b *bucket) spare(secure bool, now time.Time) *entry {
	if e := b.cache[0]; !e.fresh(now) {
		return e
	}
	if secure {
		for _, e := range b.cache {
			if !e.secure {
				return e
			}
		}
	}
	return nil
}

func (b *bucket) uncache(e *entry) {
	for i, c := range b.cache {
		if c == e {
			b.cache = append(b.cache[:i], b.cache[i+1:]...)
			return
		}
	}
}

// oldestDue returns the least recently heard of contact that is due to be pinged, or nil.
func (b *bucket) oldestDue(now time.Time) (oldest *entry) {
	for _, e := range b.slots {
		if e != nil && e.due(now) && (oldest == nil || e.answered.Before(oldest.answered)) {
			oldest = e
		}
	}
	return oldest
}

// pace reports whether another newcomer may be pinged for this bucket, at most limit in a second: sightings can be
// forged in any number, and must not crowd out those of other buckets.
func (b *bucket) pace(limit int, now time.Time) bool {
	if now.Sub(b.paced) >= time.Second {
		b.paced, b.pings = now, 0
	}
	if b.pings >= limit {
		return false
	}
	b.pings++
	return true
}
