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
	// maxGuessers is for how many addresses that is known, and maxNeighbours for how many in one /64 of IPv6. All others there, and all
	// others anywhere, have one penalty in common, which is crowdPenalty at most. So a /64 has at most maxNeighbours guesses in
	// longestPenalty and one in crowdPenalty, which are 31 a minute in a steady state, and all addresses together 1,007: 512 of their
	// own, 15 of each of the 32 /64s that can be crowded, and 15 of all others.
	maxGuessers   = 512
	maxNeighbours = 16
	crowdPenalty  = 4 * time.Second
	// maxKnown is how many addresses that knew the password are remembered, and acquaintance for how long.
	maxKnown     = 64
	acquaintance = 24 * time.Hour
)

// guesses slows down whoever guesses at the password. Each address has penalties of its own, so that a host which has it wrong does not lock
// out its LAN, which in IPv6 is one /64. Since a host has as many addresses there as it likes, only the first few have; the others share
// one, which stays short, but which somebody who asks all the time gets each time before others: the owner among them then comes over
// IPv4, or from where he has known the password before. Whoever
// has known the password shares none.
type guesses struct {
	mu       sync.Mutex
	guessers map[netip.Prefix]*guesser // by address, /64, and for all others by that of length 0
	known    map[netip.Addr]time.Time  // until when
}

// guesser is one that had a wrong password, or several that share a penalty.
type guesser struct {
	wrong   int
	last    time.Time
	longest time.Duration
}

// until is when another password is looked at.
func (g *guesser) until() time.Time {
	return g.last.Add(min(firstPenalty<<min(g.wrong-1, 10), g.longest))
}

// try looks at a password, or gives the time to wait before it would. Of several at once it looks at one.
func (a *guesses) try(from netip.Addr, now time.Time, right func() bool) (ok bool, wait time.Duration) {
	from = from.Unmap().WithZone("")
	a.mu.Lock()
	defer a.mu.Unlock()
	key, longest := a.keyOf(from, now), longestPenalty
	if !key.IsSingleIP() {
		longest = crowdPenalty
	}
	g := a.guessers[key]
	if g != nil && now.Sub(g.last) > forgiveness {
		g = nil
	}
	if g != nil && now.Before(g.until()) {
		return false, g.until().Sub(now)
	}
	if right() {
		if key.IsSingleIP() {
			delete(a.guessers, key)
		}
		a.remember(from, now)
		return true, 0
	}
	if g == nil {
		g = &guesser{longest: longest}
		if a.guessers == nil {
			a.guessers = make(map[netip.Prefix]*guesser)
		}
		a.guessers[key] = g
	}
	g.wrong, g.last = g.wrong+1, now
	return false, 0
}

// keyOf is by what a guesser is known: its address, or what it shares a penalty with. Whose penalty is long ago is forgotten when there is no
// room without that.
func (a *guesses) keyOf(from netip.Addr, now time.Time) netip.Prefix {
	own, _ := from.Prefix(from.BitLen()) // of no address it is none, which is that of all others
	if _, there := a.guessers[own]; there || now.Before(a.known[from]) {
		return own
	}
	network := networkOf(from)
	crowded := func() (netip.Prefix, bool) {
		all, neighbours := 0, 0
		for key := range a.guessers {
			if key.IsSingleIP() {
				all++
				if network.Contains(key.Addr()) {
					neighbours++
				}
			}
		}
		switch {
		case from.Is6() && neighbours >= maxNeighbours:
			return network, true
		case all >= maxGuessers:
			return netip.Prefix{}, true
		}
		return own, false
	}
	key, full := crowded()
	if full {
		for key, g := range a.guessers {
			if now.Sub(g.last) > forgiveness {
				delete(a.guessers, key)
			}
		}
		key, _ = crowded()
	}
	return key
}

// networkOf is the network in which a guesser has as many addresses as it likes.
func networkOf(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	key, _ := from.Prefix(bits) // of no address it is none, which is a key, too
	return key
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
