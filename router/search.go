package router

import (
	"net/netip"
	"time"

	"kdht/router/krpc"
)

// Search is one lookup in one family without sockets and without a clock of its own: it says whom to ask, and is told
// what came of it. The lookups of a [Node] are decided by the same code; package sim drives it in virtual time. It is
// not safe for concurrent use.
type Search struct {
	list *shortlist
	hops int
}

// NewSearch begins a lookup of target with the closest contacts of a table, as the node at self does.
func NewSearch(t *Table, self netip.AddrPort, target ID) *Search {
	isSelf := func(a netip.AddrPort) bool { return a == self }
	s := &Search{list: newShortlist(t.config.Family, target, t.config, isSelf, alpha)}
	for _, c := range t.Closest(target, lookupSeeds) {
		s.Add(c)
	}
	return s
}

// Add takes a contact that is known from elsewhere as a candidate.
func (s *Search) Add(c Contact) { s.list.add(c, nil) }

// Asked takes a contact that somebody else has asked already, which then is not asked again: a node that answered, or one
// that was silent.
func (s *Search) Asked(c Contact, answered bool) {
	s.list.add(c, nil)
	switch k := s.candidate(c); {
	case k == nil:
	case answered:
		k.state, k.useful = stateAnswered, true
	default:
		k.state = stateFailed
	}
}

// Next returns a contact to ask at once, which then counts as asked at that time; false if there is none for now.
func (s *Search) Next(now time.Time) (Contact, bool) {
	c := s.list.next(func(*candidate) bool { return true })
	if c == nil {
		return Contact{}, false
	}
	c.state, c.asked = stateAsked, now
	s.list.queries++
	return c.Contact, true
}

// Slow records that a contact that was asked takes long.
func (s *Search) Slow(c Contact) {
	if k := s.candidate(c); k != nil {
		s.list.slow(k)
	}
}

// Failed records that a contact did not answer.
func (s *Search) Failed(c Contact) {
	if k := s.candidate(c); k != nil {
		s.list.failed(k)
	}
}

// Answered records the response of a contact, and takes the contacts that it refers to as candidates.
func (s *Search) Answered(c Contact, r *krpc.Message) {
	if k := s.candidate(c); k != nil && s.list.answered(k, r.ID) {
		s.hops = max(s.hops, k.hops)
		k.responded(r, s.list.add)
	}
}

// Done reports whether the lookup is complete. If that depends on time, wait is when to look again.
func (s *Search) Done(now time.Time) (done bool, wait time.Duration) { return s.list.done(now) }

// Closest returns those that answered, closest first, at most 8.
func (s *Search) Closest() (found []Contact) {
	for _, c := range s.list.closest(bucketSize) {
		found = append(found, c.Contact)
	}
	return found
}

// Hops returns the longest chain of referrals that was followed to a node that answered; a contact that the lookup began
// with is none.
func (s *Search) Hops() int { return s.hops }

// candidate returns what the lookup knows of the node at an address; nil if it has forgotten it.
func (s *Search) candidate(c Contact) *candidate {
	return s.list.byAddr[s.list.table.key(c.Addr.Addr())]
}
