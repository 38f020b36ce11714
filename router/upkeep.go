package router

import (
	"slices"
	"time"
)

// Questionable returns the contacts to ping now, least recently heard of first: those not heard of for 15 minutes,
// those that failed and are due for another try, and cached ones for which there would be a slot. They count as
// pinged, and are not returned again for at least 15 seconds.
func (t *Table) Questionable(now time.Time) []Contact {
	var due []*entry
	for i := range t.buckets {
		b := &t.buckets[i]
		for _, e := range b.slots {
			if e != nil && e.due(now) {
				due = append(due, e)
			}
		}
		for _, e := range b.cache {
			if e.due(now) && b.slotFor(e.secure) >= 0 {
				due = append(due, e)
			}
		}
	}
	slices.SortStableFunc(due, func(a, b *entry) int { return a.answered.Compare(b.answered) })
	contacts := make([]Contact, len(due))
	for i, e := range due {
		e.checked = now
		contacts[i] = e.Contact
	}
	return contacts
}

// RefreshTargets returns a random ID from each bucket that nobody has answered from for 15 minutes, to look up
// (BEP 5), from the farthest bucket to the one beyond the deepest that has contacts. They count as looked up.
func (t *Table) RefreshTargets(now time.Time) (targets []ID) {
	deepest := idBits - 1
	for deepest >= 0 && t.buckets[deepest].len() == 0 {
		deepest--
	}
	if deepest < 0 {
		return nil
	}
	for i := range min(deepest+2, idBits) {
		if b := &t.buckets[i]; now.Sub(b.touched) >= freshFor {
			b.touched = now
			targets = append(targets, randomIn(t.config.Self, i))
		}
	}
	return targets
}
