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
	for i := range t.buckets {
		b := &t.buckets[i]
		for _, e := range b.slots {
			if e != nil && (e.due(now) || e.unconfirmed(now)) {
				due = append(due, e)
			}
		}
		for _, e := range b.cache {
			if e.due(now) && (b.slotFor(e.secure) >= 0 || e.doubtful()) || e.unconfirmed(now) {
				due = append(due, e)
			}
		}
	}
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

// RefreshTargets returns a random ID from each bucket that nobody has answered from for 15 minutes, to look up
// (BEP 5): from the farthest bucket to the one beyond that of the 8th closest contact, which leads to all that are
// closer still, and from deeper ones if they have contacts. They count as looked up.
//
// Empty buckets beyond are left alone: there would be as many as a node likes that takes an ID next to ours.
func (t *Table) RefreshTargets(now time.Time) (targets []ID) {
	last, closer := idBits-1, 0
	for ; last >= 0; last-- {
		if closer += t.buckets[last].len(); closer >= bucketSize {
			break
		}
	}
	if closer == 0 {
		return nil
	}
	last = max(last, 0) + 1
	for i := range idBits {
		b := &t.buckets[i]
		if now.Sub(b.touched) >= freshFor && (i <= last || b.len() > 0) {
			b.touched = now
			targets = append(targets, randomIn(t.config.Self, i))
		}
	}
	return targets
}
