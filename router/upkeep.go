package router

import (
	"slices"
	"time"
)

// maxConfirmations is how many new contacts are asked again at a time: a node that has just joined has many.
const maxConfirmations = 32

// Questionable returns the contacts to ping now, least recently heard of first: those not heard of for 15 minutes,
// those that failed and are due for another try, those that are new, some at a time, or whose address has
// sent a query under another ID, and cached ones for which there would be a slot. They count as pinged, and are not returned again for at least 15 seconds.
func (t *Table) Questionable(now time.Time) []Contact {
	var due []*entry
	t.eachBucket(func(_ int, b *bucket) {
		b.each(func(e *entry) {
			if e.due(now) || e.unconfirmed(now) {
				due = append(due, e)
			}
		})
		for _, e := range b.cache {
			if e.due(now) && (b.slotFor(e.secure) >= 0 || e.doubtful()) || e.unconfirmed(now) {
				due = append(due, e)
			}
		}
	})
	slices.SortStableFunc(due, func(a, b *entry) int { return a.answered.Compare(b.answered) })
	contacts := make([]Contact, 0, len(due))
	confirmations := 0
	for _, e := range due {
		if !e.due(now) {
			if confirmations++; confirmations > maxConfirmations {
				continue
			}
		}
		e.checked = now
		contacts = append(contacts, e.Contact)
	}
	return contacts
}

// maxRefreshes is how many lookups are called for at a time: the first may bring in what the others would look for.
const maxRefreshes = 16

// refreshAfter is how long after the last answer from it a bucket is looked up: BEP 5's 15 minutes, and time for its contacts to
// answer the pings that are due then.
const refreshAfter = freshFor + time.Minute

// refillEvery is how often a bucket that has fewer contacts than it can have is looked up although they answer.
const refillEvery = time.Hour

// RefreshTargets returns random IDs to look up, one of each bucket that nobody has answered from for 16 minutes, at most 16 at
// a time, the farthest first. They count as looked up.
//
// Where the network is so dense that every bucket of a level can be filled, which is known from how many leading bits the
// 8 closest contacts share with us, each of these buckets is looked up for itself, also once an hour while it is not full. A
// level beyond is looked up as a whole, for not every bucket of it has nodes at all: up to the level beyond that of the 8th
// closest contact, which leads to all that are closer still, and deeper ones if they have contacts.
//
// Empty levels beyond are left alone: there would be as many as a node likes that takes an ID next to ours.
func (t *Table) RefreshTargets(now time.Time) (targets []ID) {
	last, closer := idBits-1, 0
	for ; last >= 0; last-- {
		for j := range t.levels[last] {
			closer += t.levels[last][j].n
		}
		if closer >= bucketSize {
			break
		}
	}
	if closer == 0 {
		return nil
	}
	last = max(last, 0)
	for i := 0; i < idBits && len(targets) < maxRefreshes; i++ {
		if i > last+1 && t.levels[i] == nil {
			continue
		}
		if t.levels[i] == nil {
			t.levels[i] = make([]bucket, 1<<(t.config.Bits-1))
		}
		if i <= last-t.config.Bits {
			targets = t.refreshBuckets(targets, i, now)
		} else if id, ok := t.refreshLevel(i, i <= last+1, now); ok {
			targets = append(targets, id)
		}
	}
	return targets
}

// refreshBuckets adds an ID of each bucket of a level that is to be looked up for itself, as far as there is room.
func (t *Table) refreshBuckets(targets []ID, level int, now time.Time) []ID {
	for j := range t.levels[level] {
		b := &t.levels[level][j]
		if len(targets) == maxRefreshes {
			break
		}
		if now.Sub(b.touched) >= refreshAfter || b.n < bucketSize && now.Sub(b.refilled) >= refillEvery {
			b.touched, b.refilled = now, now
			targets = append(targets, t.randomIn(level, j))
		}
	}
	return targets
}

// refreshLevel returns an ID of a level if it is to be looked up as a whole; if it has no contacts only where empty says so.
func (t *Table) refreshLevel(level int, empty bool, now time.Time) (ID, bool) {
	buckets := t.levels[level]
	for j := range buckets {
		if now.Sub(buckets[j].touched) < refreshAfter {
			return ID{}, false
		}
		empty = empty || buckets[j].n > 0
	}
	if !empty {
		return ID{}, false
	}
	for j := range buckets {
		buckets[j].touched = now
	}
	return t.randomIn(level, -1), true
}
