package router

import (
	"net/netip"
	"time"
)

const (
	// freshFor is how long an answer, or a query from a node that has answered, vouches for a contact (BEP 5).
	freshFor = 15 * time.Minute
	// vouchFor bounds how long queries alone do: their source can be forged, an answer's cannot.
	vouchFor = time.Hour
	// longLived is how long a contact must have been answering to be given one failure more.
	longLived = time.Hour
	// confirmAfter is how long after its first answer a contact is asked again. Many nodes change their ID soon after they
	// have begun, when they have learnt their address (BEP 42), or are gone.
	confirmAfter = 10 * time.Second
	// maxFailures is how many queries in a row a contact may leave unanswered and still be tried again.
	maxFailures = 8
)

// State is what a table thinks of a contact (BEP 5).
type State uint8

// The states of a contact.
const (
	Good         State = iota // answered within 15 minutes, or queried us since and answered within the hour
	Questionable              // not heard of for 15 minutes, or left one query unanswered
	Bad                       // left two queries in a row unanswered, or three if long-lived
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Questionable:
		return "questionable"
	default:
		return "bad"
	}
}

// entry is a contact of the table or of a replacement cache. It has answered at least once.
type entry struct {
	Contact
	key      netip.Addr // what it is unique by
	secure   bool       // the ID follows BEP 42, or need not
	cached   bool       // in a replacement cache
	since    time.Time  // first answer
	answered time.Time  // last answer
	asked    time.Time  // last query from it
	checked  time.Time  // last time it was handed out to be pinged, or failed
	failures int        // queries unanswered since the last answer
	rtt      time.Duration
	doubted  time.Time // last query from its address under another ID
	claim    ID        // other ID that its address last answered with
}

func (e *entry) state(now time.Time) State {
	switch {
	case e.bad():
		return Bad
	case e.failures > 0:
		return Questionable
	case now.Sub(e.answered) <= freshFor:
		return Good
	case now.Sub(e.asked) <= freshFor && now.Sub(e.answered) <= vouchFor:
		return Good
	default:
		return Questionable
	}
}

// bad reports whether another contact may take the place of this one.
func (e *entry) bad() bool {
	if e.answered.Sub(e.since) >= longLived {
		return e.failures > 2
	}
	return e.failures > 1
}

// fresh reports whether the last answer is recent.
func (e *entry) fresh(now time.Time) bool { return now.Sub(e.answered) <= freshFor }

// doubtful reports whether a query from its address had another ID since it last answered. It says no more than that the
// ID may have changed: the source of a query can be forged.
func (e *entry) doubtful() bool { return e.doubted.After(e.answered) }

// unconfirmed reports whether the contact is to be pinged because it has not answered again since it has been known for a
// while.
func (e *entry) unconfirmed(now time.Time) bool {
	return e.failures == 0 && e.answered.Sub(e.since) < confirmAfter && now.Sub(e.since) >= confirmAfter && now.Sub(e.checked) >= confirmAfter
}

// due reports whether the contact is to be pinged: it is not good, or doubtful, and the last try is long enough ago.
func (e *entry) due(now time.Time) bool {
	if e.state(now) == Good && !e.doubtful() {
		return false
	}
	wait := 30 * time.Second
	switch {
	case e.failures == 1 && !e.claim.IsZero():
		wait = 5 * time.Second // it is there, and not yet known which ID is the right one
	case e.failures > 0:
		wait = min(15*time.Second<<(e.failures-1), 15*time.Minute)
	}
	return now.Sub(e.checked) >= wait
}

// refresh records an answer and reports whether it made the contact fit to hand out again.
func (e *entry) refresh(rtt time.Duration, now time.Time) bool {
	recovered := e.failures > 0
	e.answered, e.failures, e.claim = now, 0, ID{}
	if e.rtt == 0 {
		e.rtt = rtt
	} else {
		e.rtt += (rtt - e.rtt) / 8
	}
	return recovered
}
