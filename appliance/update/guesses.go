package update

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of guessing at the password.
const (
	// firstPenalty is how long nothing is tried for an address after a wrong password; it doubles with each, up to
	// longestPenalty, and all is forgotten after forgiveness.
	firstPenalty   = time.Second
	longestPenalty = time.Minute
	forgiveness    = time.Hour
	// maxGuessers is for how many addresses that is known. While there are more, only those are let in that were before:
	// so all of them together have maxGuessers guesses in longestPenalty.
	maxGuessers = 512
	// maxKnown is how many addresses that knew the password are remembered, and acquaintance for how long.
	maxKnown     = 64
	acquaintance = 24 * time.Hour
)

// guesses slows down whoever guesses at the password. An IPv6 guesser is known by its /64, in which it has as many addresses
// as it likes; whoever has known the password before by the whole address, so that no neighbour can lock it out.
type guesses struct {
	mu       sync.Mutex
	guessers map[netip.Prefix]*guesser
	known    map[netip.Addr]time.Time // until when
}

// guesser is one that had a wrong password.
type guesser struct {
	wrong int
	last  time.Time
}

// until is when another password is looked at.
func (g *guesser) until() time.Time {
	return g.last.Add(min(firstPenalty<<min(g.wrong-1, 10), longestPenalty))
}

// try looks at a password, or gives the time to wait before it would. Of several at once it looks at one.
func (a *guesses) try(from netip.Addr, now time.Time, right func() bool) (ok bool, wait time.Duration) {
	from = from.Unmap().WithZone("")
	a.mu.Lock()
	defer a.mu.Unlock()
	key, known := guesserOf(from), now.Before(a.known[from])
	if known {
		key = netip.PrefixFrom(from, from.BitLen())
	}
	g := a.guessers[key]
	if g != nil && now.Sub(g.last) > forgiveness {
		g = nil
	}
	if g != nil && now.Before(g.until()) {
		return false, g.until().Sub(now)
	}
	if g == nil && !a.room(now) && !known {
		return false, longestPenalty
	}
	if right() {
		delete(a.guessers, key)
		a.remember(from, now)
		return true, 0
	}
	if g == nil {
		g = &guesser{}
		if a.guessers == nil {
			a.guessers = make(map[netip.Prefix]*guesser)
		}
		a.guessers[key] = g
	}
	g.wrong, g.last = g.wrong+1, now
	return false, 0
}

// guesserOf is by what a guesser is known.
func guesserOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	key, _ := from.Prefix(bits) // of no address it is none, which is a key, too
	return key
}

// room says whether there is room for another guesser.
func (a *guesses) room(now time.Time) bool {
	if len(a.guessers) < maxGuessers {
		return true
	}
	for key, g := range a.guessers {
		if now.Sub(g.last) > forgiveness {
			delete(a.guessers, key)
		}
	}
	return len(a.guessers) < maxGuessers
}

// remember notes who knew the password.
func (a *guesses) remember(from netip.Addr, now time.Time) {
	if a.known == nil {
		a.known = make(map[netip.Addr]time.Time)
	}
	if _, there := a.known[from]; !there && len(a.known) >= maxKnown {
		oldest := from
		for x, until := range a.known {
			if oldest == from || until.Before(a.known[oldest]) {
				oldest = x
			}
		}
		delete(a.known, oldest)
	}
	a.known[from] = now.Add(acquaintance)
}
