package router

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// votesKept bounds the memory of who told us our address.
	votesKept = 32
	// votesNeeded is how many must agree on an address.
	votesNeeded = 5
	// addressRest is for how long a node that has changed its address keeps the new one, whatever is said.
	addressRest = 10 * time.Minute
)

// external finds out our address as other nodes see it, from the "ip" in answers to queries of ours (BEP 42). A node
// that was not asked has no vote, and each address, or IPv6 /64, has one: that of its last answer. Safe for concurrent use.
type external struct {
	mu      sync.Mutex
	fixed   bool // told by the configuration
	addr    netip.Addr
	since   time.Time // when addr was last changed by votes
	votes   map[netip.Addr]netip.Addr
	voters  [votesKept]netip.Addr // ring of the keys of votes
	next    int
	allowed func(netip.Addr) bool
}

func newExternal(known netip.Addr, fixed bool, allowed func(netip.Addr) bool) *external {
	return &external{fixed: fixed, addr: known, votes: make(map[netip.Addr]netip.Addr), allowed: allowed}
}

// address returns our address; the zero Addr if it is not known.
func (e *external) address() netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addr
}

// agreeing returns our address and how many votes there are for it.
func (e *external) agreeing() (netip.Addr, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, a := range e.votes {
		if a == e.addr {
			n++
		}
	}
	return e.addr, n
}

// vote records what a voter says and reports whether that decided for another address.
//
// It takes five votes and two thirds of all. An address that was decided on holds for ten minutes, and after a change
// all votes begin anew: a node behind a NAT with several addresses, or in the middle of moving, must not change its ID
// back and forth.
func (e *external) vote(voter, addr netip.Addr, now time.Time) (netip.Addr, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	addr, voter = addr.Unmap(), hostOf(voter)
	if e.fixed || addr.Is4() != voter.Is4() || !e.allowed(addr) {
		return netip.Addr{}, false
	}
	if _, known := e.votes[voter]; !known {
		delete(e.votes, e.voters[e.next])
		e.voters[e.next] = voter
		e.next = (e.next + 1) % votesKept
	}
	e.votes[voter] = addr
	if addr == e.addr || !e.since.IsZero() && now.Sub(e.since) < addressRest {
		return netip.Addr{}, false
	}
	n := 0
	for _, a := range e.votes {
		if a == addr {
			n++
		}
	}
	if n < votesNeeded || n*3 < len(e.votes)*2 {
		return netip.Addr{}, false
	}
	e.addr, e.since = addr, now
	clear(e.votes)
	e.voters, e.next = [votesKept]netip.Addr{}, 0
	return addr, true
}
