package router

import (
	"net/netip"
	"sync"
	"time"

	"kdht/bpf/limit"
)

// guard holds senders to the limits of package limit, as the kernel half does. Its memory is fixed. Safe for concurrent use.
type guard struct {
	config limit.Config
	params limit.Params
	seed   uint64
	clock  clock

	mu      sync.Mutex
	sources *limit.Table // nil: there is no limit per source
	proofs  *limit.Table
	growth  limit.Budget
}

func newGuard(c limit.Config, clock clock) *guard {
	g := &guard{config: c, params: c.Params(), seed: randomSeed(), clock: clock, proofs: new(limit.Table)}
	if g.params.Interval > 0 {
		g.sources = new(limit.Table)
	}
	return g
}

// time returns a time on the clock that both halves share.
func (g *guard) time(now time.Time) limit.Time { return g.clock.at(now) }

// admit takes a token of the sender of a datagram, and reports whether there was one.
func (g *guard) admit(a netip.Addr, now time.Time) bool {
	if g.sources == nil {
		return true
	}
	h := limit.HashOf(g.seed, a)
	g.mu.Lock()
	defer g.mu.Unlock()
	ok, _ := g.sources[h.Set()].Take(g.params, h, g.time(now), func() bool { return g.config.IsExempt(a) })
	return ok
}

// mayGrow reports whether a sender may have a reply that is so many bytes longer than his query, and takes them out of the
// budget if he may have forged his address, else out of his own.
func (g *guard) mayGrow(a netip.Addr, by int, now time.Time) bool {
	if g.params.GrowthCost == 0 || by <= 0 {
		return true
	}
	h, t := limit.HashOf(g.seed, a), g.time(now)
	g.mu.Lock()
	var ok bool
	switch {
	case !g.proofs[h.Set()].Known(h, t, false):
		ok = g.growth.Grow(g.params, by, t)
	case g.sources == nil:
		ok = true
	default:
		ok = g.sources[h.Set()].Charge(g.params, h, by, t, func() bool { return g.config.IsExempt(a) })
	}
	g.mu.Unlock()
	return ok || g.config.IsExempt(a)
}

// prove remembers that somebody has proved to be at an address. It reports whether the kernel half is to be told.
func (g *guard) prove(a netip.Addr, now time.Time) bool {
	h := limit.HashOf(g.seed, a)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proofs[h.Set()].Prove(h, g.time(now))
}

// isProven reports whether somebody has.
func (g *guard) isProven(a netip.Addr, now time.Time) bool {
	h := limit.HashOf(g.seed, a)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proofs[h.Set()].Known(h, g.time(now), false)
}

// vouches reports whether a sender is where he says, as far as is known: he has proved it, or nobody is asked to.
func (g *guard) vouches(a netip.Addr, now time.Time) bool {
	return g.params.GrowthCost == 0 || g.isProven(a, now)
}

// proved learns that somebody has proved to be at an address, and tells the kernel half.
func (n *Node) proved(a netip.Addr, now time.Time) {
	if !n.guard.prove(a, now) {
		return
	}
	n.count(eventProven)
	n.recursor.proved(a)
	if k := n.prover.Load(); k != nil {
		if err := (*k).Prove(a); err != nil {
			n.log.Debug("the kernel half does not know that an address is proven", "addr", a, "error", err)
		}
	}
}

// expect has the kernel half let the reply to a query through, which may come from an unproven source in a flood.
func (n *Node) expect(a netip.Addr) {
	k := n.prover.Load()
	if k == nil || n.guard.isProven(a, time.Now()) {
		return
	}
	if err := (*k).Expect(a); err != nil {
		n.log.Debug("the kernel half does not know that an address was asked", "addr", a, "error", err)
	}
}
