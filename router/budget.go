package router

import (
	"net/netip"
	"sync"
	"time"
)

// fairBudget is what all recursions together may send. It is a token bucket: while it is at least half full, everybody may take
// what he wants; below, a client has no more than his part of the rate, all clients with recursions under way having the same.
// So nobody's queries wait because another one asks for much, and what some do not use others may. [unprovenClients] have an eighth
// of it at most. Safe for concurrent use.
type fairBudget struct {
	interval time.Duration // between two queries, in all
	burst    time.Duration

	mu       sync.Mutex
	all      time.Time // when the bucket will be empty, see turn
	unproven time.Time // likewise that of the clients who may be forged
	clients  map[netip.Addr]*part
}

// unprovenClients stands for all clients who never proved their address: they count as one.
var unprovenClients netip.Addr

// unprovenShare is which part of the budget they have at most, and of the recursions that may be under way. The kernel half has the
// same rule.
const unprovenShare = 8

// part is a client's.
type part struct {
	recursions int // under way
	used       time.Time
}

// newFairBudget allows rate queries per second, and a quarter of that at once.
func newFairBudget(rate int) *fairBudget {
	b := &fairBudget{interval: time.Second / time.Duration(rate), clients: make(map[netip.Addr]*part)}
	b.burst = max(b.interval*time.Duration(rate)/4, b.interval)
	return b
}

// join and leave count a client's recursions.
func (b *fairBudget) join(client netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.clients[client]
	if p == nil {
		p = new(part)
		b.clients[client] = p
	}
	p.recursions++
}

func (b *fairBudget) leave(client netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.clients[client]; p != nil {
		if p.recursions--; p.recursions <= 0 {
			delete(b.clients, client)
		}
	}
}

// take takes a query for a client, if there is one.
func (b *fairBudget) take(client netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all, wait := turn(b.all, now, b.interval, b.burst)
	if wait > 0 {
		return false
	}
	unproven := b.unproven
	if client == unprovenClients {
		if unproven, wait = turn(unproven, now, unprovenShare*b.interval, max(b.burst, unprovenShare*b.interval)); wait > 0 {
			return false
		}
	}
	if p := b.clients[client]; p != nil {
		each := b.interval * time.Duration(len(b.clients))
		used, wait := turn(p.used, now, each, max(b.burst/2, each))
		switch {
		case wait == 0:
			p.used = used
		case all.Sub(now) > b.burst/2:
			return false
		}
	}
	b.all, b.unproven = all, unproven
	return true
}

// ample reports whether more than three quarters of the bucket are left, so that another recursion of a client would not hold up those
// that are under way.
func (b *fairBudget) ample(client netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if client == unprovenClients && b.unproven.Sub(now) >= b.burst/4 {
		return false
	}
	return b.all.Sub(now) < b.burst/4
}

// pacer says when a query may be sent.
type pacer interface {
	// spare takes a turn if it is there at once, and reports whether it was.
	spare(a netip.Addr, now time.Time) bool
	// queue takes the next turn at a destination, and returns how long to wait for it; false if there is none within
	// limiterPatience.
	queue(a netip.Addr, now time.Time) (time.Duration, bool)
	// wait returns how long to wait for a turn at a destination.
	wait(a netip.Addr, now time.Time) time.Duration
}

// clientPacer is the pacer of a client's recursion.
type clientPacer struct {
	*limiter
	budget *fairBudget
	client func() netip.Addr
}

func (p clientPacer) spare(a netip.Addr, now time.Time) bool {
	if p.toDestination(a, now) > 0 || !p.budget.take(p.client(), now) {
		return false
	}
	_, ok := p.reserveAt(a, now, 0) // somebody may have been faster: a query less for the client
	return ok
}

func (p clientPacer) queue(a netip.Addr, now time.Time) (time.Duration, bool) {
	if !p.budget.take(p.client(), now) {
		return 0, false
	}
	return p.reserveAt(a, now, limiterPatience)
}

func (p clientPacer) wait(a netip.Addr, now time.Time) time.Duration { return p.toDestination(a, now) }
