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
	// maxGuessers is for how many addresses of each [region] that is known, and maxNeighbours for how many of one [origin]. All others there,
	// and all others of the region, have one penalty in common, which is crowdPenalty at most. So an origin has at most maxNeighbours guesses in
	// longestPenalty and one in crowdPenalty, which are 31 a minute in a steady state, and all addresses together 1,804: of each of four regions
	// 256 of their own, as many as an IPv4 LAN may have, and 15 of all others, and 15 of each of the 48 origins that can be crowded.
	maxGuessers   = 256
	maxNeighbours = 16
	crowdPenalty  = 4 * time.Second
	// maxKnown is how many addresses that knew the password are remembered, and acquaintance for how long.
	maxKnown     = 64
	acquaintance = 24 * time.Hour
)

// guesses slows down whoever guesses at the password, and nobody else. Each address has penalties of its own. Since who guesses may have as many
// addresses as he likes, only the first few of each [origin] have; the others there share one, which stays short, but which somebody who asks all the
// time gets each time before others. So the origin is what a guesser does not have many of without pretending to be others: on the link the link
// address, so that a host there shares with nobody, and elsewhere the /64 of IPv6; who shares that with him comes from elsewhere, over IPv4, or from
// where he has known the password before. Who guesses from many origins uses up the places of his [region] only. Whoever has known the password
// shares with nobody.
type guesses struct {
	linkAddress func(netip.Addr) (mac [6]byte, ok bool) // of a host on a link of this one; nil: none is known

	mu       sync.Mutex
	guessers map[guesserKey]*guesser
	known    map[netip.Addr]time.Time // until when
}

// region is where from somebody guesses, and over which family: however many guess in one, there is room for those of the others.
type region uint8

// The regions.
const (
	onLinkIPv4 region = iota + 1
	onLinkIPv6
	farIPv4
	farIPv6
)

// origin is where all addresses are that may be one host's: one of the two.
type origin struct {
	mac     [6]byte      // on the link, of either family
	network netip.Prefix // elsewhere
}

// originOf is the region and the origin of an address.
func (a *guesses) originOf(from netip.Addr) (region, origin) {
	four := from.Unmap().Is4()
	if a.linkAddress != nil {
		if mac, ok := a.linkAddress(from); ok {
			if four {
				return onLinkIPv4, origin{mac: mac}
			}
			return onLinkIPv6, origin{mac: mac}
		}
	}
	if four {
		return farIPv4, origin{network: networkOf(from)}
	}
	return farIPv6, origin{network: networkOf(from)}
}

// guesserKey is by what a guesser is known: its address, or what it shares a penalty with, an origin or a region. The rest is zero.
type guesserKey struct {
	addr   netip.Addr
	origin origin
	region region
}

// single reports whether it shares its penalty with nobody.
func (k guesserKey) single() bool { return k.addr.IsValid() }

// guesser is one that had a wrong password, or several that share a penalty.
type guesser struct {
	region  region
	origin  origin
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
	var r region
	var o origin
	bare := from.Unmap().WithZone("")
	a.mu.Lock()
	acquainted := a.acquainted(bare, now)
	a.mu.Unlock()
	if !acquainted { // else nobody asks where it is, which costs something
		r, o = a.originOf(from) // its zone names the link
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key, longest := a.keyOf(bare, r, o, now), longestPenalty
	if !key.single() {
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
		if key.single() {
			delete(a.guessers, key)
		}
		a.remember(bare, now)
		return true, 0
	}
	if g == nil {
		g = &guesser{region: r, origin: o, longest: longest}
		if old := a.guessers[key]; old != nil {
			g.region, g.origin = old.region, old.origin
		}
		if a.guessers == nil {
			a.guessers = make(map[guesserKey]*guesser)
		}
		a.guessers[key] = g
	}
	g.wrong, g.last = g.wrong+1, now
	return false, 0
}

// acquainted reports whether an address has a penalty of its own, or has known the password: then it shares with nobody. a.mu is held.
func (a *guesses) acquainted(from netip.Addr, now time.Time) bool {
	_, there := a.guessers[guesserKey{addr: from}]
	return there || now.Before(a.known[from])
}

// keyOf is by what somebody is known who comes from an address, of a region and at an origin. Whose penalty is long ago is forgotten when there
// is no room without that.
func (a *guesses) keyOf(from netip.Addr, in region, at origin, now time.Time) guesserKey {
	own := guesserKey{addr: from}
	if a.acquainted(from, now) {
		return own
	}
	crowded := func() (guesserKey, bool) {
		all, neighbours := 0, 0
		for key, g := range a.guessers {
			if !key.single() {
				continue
			}
			if g.origin == at {
				neighbours++
			}
			if g.region == in {
				all++
			}
		}
		switch {
		case neighbours >= maxNeighbours:
			return guesserKey{origin: at}, true
		case all >= maxGuessers:
			return guesserKey{region: in}, true
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
