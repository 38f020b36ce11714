package discover

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/router"
)

// answerPause is the least time between two answers to all, legacyPause between two to single hosts.
const (
	answerPause = time.Second
	legacyPause = 100 * time.Millisecond
)

// send sends a message to all on the link.
func (f *iface) send(what event, b []byte, err error) {
	for family, s := range f.sockets {
		if s == nil {
			continue
		}
		e := err
		if e == nil {
			e = s.send(b, netip.AddrPort{})
		}
		if f.fault(router.Family(family), e); e == nil {
			f.task.count(what)
		}
	}
}

// act sends what is due.
func (f *iface) act(now time.Time) {
	if !f.reopen.IsZero() && !now.Before(f.reopen) {
		f.open(now)
	}
	answer := !f.answerAt.IsZero() && !now.Before(f.answerAt)
	announce := f.announce.due(now)
	if announce || answer {
		f.answerAt, f.sent = time.Time{}, now
		f.instances = f.task.describe(f.link) // node IDs change
		b, err := appendResponse(f.instances, ttl)
		if announce {
			f.send(sentAnnouncement, b, err)
		} else {
			f.send(sentAnswer, b, err)
		}
	}
	if f.enumerate && answer {
		f.enumerate = false
		b, err := appendEnumeration()
		f.send(sentAnswer, b, err)
	}
	if f.ask.due(now) {
		b, err := appendQuery(f.fresh(now))
		f.send(sentQuery, b, err)
	}
}

// next returns when something is due.
func (f *iface) next() (next time.Time) {
	times := []time.Time{f.reopen, f.announce.at, f.ask.at, f.answerAt}
	for _, n := range f.neighbours {
		times = append(times, n.expires)
	}
	for _, t := range times {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// fresh returns the neighbours that need not answer a query: their records are good for more than half of their time.
func (f *iface) fresh(now time.Time) (all []known) {
	for _, n := range f.neighbours {
		if left := n.expires.Sub(now) / time.Second; left > ttl/2 {
			all = append(all, known{n.name, uint32(min(left, ttl))})
		}
	}
	return all
}

// asked deals with a query.
func (f *iface) asked(q *query, p packet, now time.Time) {
	legacy := p.from.Port() != port
	var wanted []instance
	for i := range f.instances {
		s := &f.instances[i]
		if q.browse && (legacy || !q.knows(s)) || q.about(s) {
			wanted = append(wanted, *s)
		}
	}
	switch {
	case legacy && len(wanted) > 0 && now.Sub(f.legacy) >= legacyPause:
		f.legacy = now
		b, err := appendLegacy(q, wanted)
		if err == nil {
			err = p.socket.send(b, p.from)
		}
		if f.fault(p.socket.family, err); err == nil {
			f.task.count(sentAnswer)
		}
	case !legacy && (len(wanted) > 0 || q.enumerate):
		f.enumerate = f.enumerate || q.enumerate
		if at := latest(now.Add(delay()), f.sent.Add(answerPause)); f.answerAt.IsZero() || at.Before(f.answerAt) {
			f.answerAt = at
		}
	}
	if here := slices.Contains(f.link.Addrs, p.from.Addr().WithZone("")); !here && !legacy && q.browse && f.covers(q, now) {
		f.ask.wait(now)
	}
}

// covers reports whether a query of another host asks all that ours would, so that it can stand for it (RFC 6762,
// section 7.3). That of a neighbour does not ask the neighbour itself, so none does while one's time is running out.
func (f *iface) covers(q *query, now time.Time) bool {
	for _, n := range f.neighbours {
		if n.expires.Sub(now) <= ttl/2*time.Second {
			return false
		}
	}
	for _, k := range q.have {
		if !f.task.names.own(k.instance) && f.neighbours[strings.ToLower(k.instance)] == nil {
			return false
		}
	}
	return true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// goodbye says that the node goes (RFC 6762, section 10.1).
func (f *iface) goodbye() {
	b, err := appendResponse(f.instances, 0)
	f.send(sentGoodbye, b, err)
}
