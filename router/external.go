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
	// settleTime is how long after the first answer votes are waited for. A lookup of our own ID has them within two
	// seconds, unless the network is smaller than a decision takes.
	settleTime = 5 * time.Second
)

// external finds out our address as other nodes see it: the host's own if it is public, and then from the "ip" in
// answers to queries of ours (BEP 42). A node that was not asked has no vote, and each address, or IPv6 /64, has one:
// that of its last answer. Safe for concurrent use.
//
// Until the address is settled our ID may be about to change, and nobody should take us for a contact: our queries say
// that we are read-only (BEP 43). It is settled once it is the configuration's, or the host's own and nothing else was
// known, or enough votes agree, or it is a while since the first answer: nodes that all begin at once must come to know
// each other before any of them can vote.
type external struct {
	mu      sync.Mutex
	fixed   bool // told by the configuration
	addr    netip.Addr
	local   netip.Addr // the host's own, when it was last looked at
	settled bool
	waiting bool      // for votes: somebody has answered
	since   time.Time // when addr was last changed by votes
	votes   map[netip.Addr]netip.Addr
	voters  [votesKept]netip.Addr // ring of the keys of votes
	next    int
	allowed func(netip.Addr) bool
}

// newExternal begins with the address of last time, which may be the zero Addr.
func newExternal(known netip.Addr, allowed func(netip.Addr) bool) *external {
	return &external{addr: known, votes: make(map[netip.Addr]netip.Addr), allowed: allowed}
}

// fix sets the address for good.
func (e *external) fix(addr netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addr, e.fixed, e.settled = addr, true, true
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
	return e.addr, e.votesFor(e.addr)
}

func (e *external) votesFor(addr netip.Addr) (n int) {
	for _, a := range e.votes {
		if a == addr {
			n++
		}
	}
	return n
}

// isSettled reports whether our address, and so our ID, is likely to stay.
func (e *external) isSettled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settled
}

// settle ends the wait for votes, and reports whether there was one, and whether our address has changed by that: it is
// the host's own unless more have told the one of last time.
func (e *external) settle() (waited, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.settled {
		return false, false
	}
	e.settled = true
	if !e.local.IsValid() || e.local == e.addr || e.votesFor(e.addr) > e.votesFor(e.local) {
		return true, false
	}
	e.change(e.local)
	return true, true
}

// begin takes notice of the host's own address at the start. If it is not that of last time, the host has another now, or
// others have always seen us elsewhere, as behind a VPN: they will tell, and until then our ID stays.
func (e *external) begin(local netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.allowed(local) {
		return
	}
	e.local = local
	if !e.addr.IsValid() {
		e.addr = local
	}
	e.settled = e.addr == local
}

// heard records that somebody answered, and reports whether the wait for votes begins with that.
func (e *external) heard() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.settled || e.waiting {
		return false
	}
	e.waiting = true
	return true
}

// at takes notice of the host's own address, and reports whether ours has changed by that: a new one counts for more than
// votes on the one before. The zero Addr, or one that nobody could have, says nothing.
func (e *external) at(local netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fixed || !e.allowed(local) || local == e.local {
		return false
	}
	e.local = local
	if !e.addr.IsValid() || e.addr == local {
		e.settled = true
	}
	if e.addr == local {
		return false
	}
	e.change(local)
	return true
}

// change sets another address, and begins all votes anew.
func (e *external) change(addr netip.Addr) {
	e.addr = addr
	clear(e.votes)
	e.voters, e.next = [votesKept]netip.Addr{}, 0
}

// vote records what a voter says, and reports whether that decided for another address, and whether it settled ours.
//
// It takes five votes and two thirds of all. An address that was decided on holds for ten minutes, and after a change
// all votes begin anew: a node behind a NAT with several addresses, or in the middle of moving, must not change its ID
// back and forth.
func (e *external) vote(voter, addr netip.Addr, now time.Time) (changed, settled bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	addr, voter = addr.Unmap(), hostOf(voter)
	if e.fixed || addr.Is4() != voter.Is4() || !e.allowed(addr) {
		return false, false
	}
	if _, known := e.votes[voter]; !known {
		delete(e.votes, e.voters[e.next])
		e.voters[e.next] = voter
		e.next = (e.next + 1) % votesKept
	}
	e.votes[voter] = addr
	if n := e.votesFor(addr); n < votesNeeded || n*3 < len(e.votes)*2 {
		return false, false
	}
	settled = !e.settled
	e.settled = true
	if addr == e.addr || !e.since.IsZero() && now.Sub(e.since) < addressRest {
		return false, settled
	}
	e.since = now
	e.change(addr)
	return true, settled
}
