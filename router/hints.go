package router

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxHints bounds the addresses that are considered at one time.
	maxHints = 64
	// Bounds of the pause between two tries of one IP address.
	hintPauseMin = 2 * time.Second
	hintPauseMax = time.Minute
	// maxHintTries bounds the IP addresses of which the node remembers when it tried them. More are not tried before
	// some of these are forgotten, a minute after they might be tried again.
	maxHintTries = 4 * maxHints
)

// hints are addresses at which nodes may live, as far as somebody says who may be wrong or lie.
type hints struct {
	mu      sync.Mutex
	list    []netip.AddrPort
	tries   map[netip.Addr]*hintTry // outlives the hint: it may be taken back and given again
	changed chan struct{}
}

// hintTry is how an IP address was tried. One of its ports is tried at a time.
type hintTry struct {
	pause time.Duration
	next  time.Time
	turn  int
}

func newHints() *hints {
	return &hints{tries: make(map[netip.Addr]*hintTry), changed: make(chan struct{}, 1)}
}

// SetHints replaces the addresses, found by some discovery on the local network, at which nodes of this network may
// live: bootstrap nodes that come and go. Only the first 64 usable ones are considered. Each that is not known is asked
// once for the nodes around our own ID, and again after ever longer pauses of up to a minute for as long as it stays a
// hint and does not answer, or 15 minutes after it did; no IP address is asked more often, however hints change. Who answers has a claim to a place
// in the routing table like any other node. Two networks that have formed apart become one in this way.
func (n *Node) SetHints(addrs []netip.AddrPort) {
	var list []netip.AddrPort
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if len(list) == maxHints || !Usable(a, n.config.Private) || n.tables[FamilyOf(a.Addr())] == nil || n.isSelf(a) || slices.Contains(list, a) {
			continue
		}
		list = append(list, a)
	}
	n.hints.mu.Lock()
	n.hints.list = list
	n.hints.mu.Unlock()
	poke(n.hints.changed)
}

// Knows reports whether a routing table has a contact at an IP address that answered when last asked.
func (n *Node) Knows(a netip.Addr) bool {
	t := n.tables[FamilyOf(a)]
	if t == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e := t.byAddr[t.key(a.Unmap())]
	return e != nil && e.Addr.Addr() == a.Unmap() && e.failures == 0
}

// due returns the hints to try now, at most one of each IP address, and when to look again; the zero Time for not before
// they change.
func (h *hints) due(now time.Time, known func(netip.Addr) bool) (due []Contact, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	ports := make(map[netip.Addr][]netip.AddrPort)
	var ips []netip.Addr
	for _, a := range h.list {
		if ports[a.Addr()] == nil {
			ips = append(ips, a.Addr())
		}
		ports[a.Addr()] = append(ports[a.Addr()], a)
	}
	for _, ip := range ips {
		if known(ip) {
			later(now.Add(hintPauseMax)) // it may be lost
			continue
		}
		t := h.try(ip, now)
		if t == nil {
			later(now.Add(hintPauseMin))
			continue
		}
		if !now.Before(t.next) {
			due = append(due, Contact{Addr: ports[ip][t.turn%len(ports[ip])]})
			t.turn++
			t.pause = min(max(2*t.pause, hintPauseMin), hintPauseMax)
			t.next = now.Add(t.pause)
		}
		later(t.next)
	}
	return due, next
}

// try returns how an address was tried; nil if it was not lately, and there is no room to remember.
func (h *hints) try(ip netip.Addr, now time.Time) *hintTry {
	if t := h.tries[ip]; t != nil {
		return t
	}
	if len(h.tries) >= maxHintTries {
		for ip, t := range h.tries {
			if now.Sub(t.next) > hintPauseMax {
				delete(h.tries, ip)
			}
		}
		if len(h.tries) >= maxHintTries {
			return nil
		}
	}
	t := new(hintTry)
	h.tries[ip] = t
	return t
}

// answered puts off those who have answered: whoever has got no place in the routing table for that need not be asked every
// minute.
func (h *hints) answered(all []Contact, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range all {
		if t := h.tries[c.Addr.Addr()]; t != nil {
			t.pause, t.next = 0, now.Add(freshFor)
		}
	}
}

// followHints looks up our own ID through each hint that is not known yet.
func (n *Node) followHints(ctx context.Context) {
	for {
		due, next := n.hints.due(time.Now(), n.Knows)
		n.joinThrough(ctx, due)
		var again <-chan time.Time
		var t *time.Timer
		if !next.IsZero() {
			t = time.NewTimer(time.Until(next))
			again = t.C
		}
		select {
		case <-ctx.Done():
		case <-n.hints.changed:
		case <-again:
		}
		if t != nil {
			t.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// joinThrough looks up our own ID, in each family that some of the roots are of, through these as well. The first
// nodes of a family bring the usual repetitions of joining.
func (n *Node) joinThrough(ctx context.Context, roots []Contact) {
	for f, t := range n.tables {
		f := Family(f)
		mine := slices.DeleteFunc(slices.Clone(roots), func(c Contact) bool { return FamilyOf(c.Addr.Addr()) != f })
		if t == nil || len(mine) == 0 {
			continue
		}
		alone := n.familyLen(f) == 0
		closest, answered := n.lookupSelf(ctx, f, mine)
		n.hints.answered(answered, time.Now())
		if len(closest) == 0 {
			continue
		}
		n.setReady()
		if alone {
			poke(n.moved)
		}
	}
}
