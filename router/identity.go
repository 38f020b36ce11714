package router

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"kdht/router/krpc"
	"kdht/store"
)

// newID returns a random node ID, which follows BEP 42 if our address is known.
func newID(addr netip.Addr) ID {
	var random ID
	_, _ = rand.Read(random[:]) // never fails
	if !addr.IsValid() {
		return random
	}
	return krpc.NodeIDFor(addr, random[len(random)-1], random)
}

// identify chooses our address and ID in a family: those of last time, or of the host at first, unless the configuration
// tells another address.
func (n *Node) identify(s *socket) (ID, *external) {
	var saved store.Identity
	if n.store != nil {
		saved, _ = n.store.Identity(s.family == IPv6) // without one we get a new one
	}
	e := newExternal(saved.External, func(a netip.Addr) bool {
		return a.IsValid() && FamilyOf(a) == s.family && Usable(netip.AddrPortFrom(a, 1), n.config.Private)
	})
	e.begin(n.hostAddr(s))
	if n.config.Private || n.config.ReadOnly || s.conn.LocalAddr().Addr().IsLoopback() {
		e.settle() // IDs are not bound to addresses, or nobody comes to know ours
	}
	for _, a := range n.config.External {
		if FamilyOf(a) == s.family {
			e.fix(a.Unmap())
		}
	}
	id, addr := ID(saved.ID), e.address()
	if n.config.NewID != nil || id.IsZero() || !n.mayKeep(id, addr) {
		id = n.newID(s.family, addr)
	}
	return id, e
}

// newID returns an ID that is good at an address.
func (n *Node) newID(f Family, addr netip.Addr) ID {
	if n.config.Private {
		addr = netip.Addr{} // IDs are not bound to addresses
	}
	if n.config.NewID != nil {
		return n.config.NewID(f, addr)
	}
	return newID(addr)
}

// mayKeep reports whether an ID is good at an address.
func (n *Node) mayKeep(id ID, addr netip.Addr) bool {
	return n.config.Private || !addr.IsValid() || krpc.ValidNodeID(id, addr)
}

// saveIdentity stores our ID and address in a family.
func (n *Node) saveIdentity(f Family) {
	if n.store == nil {
		return
	}
	id := store.Identity{ID: n.ID(f), External: n.external[f].address()}
	if err := n.store.SetIdentity(f == IPv6, id); err != nil {
		n.log.Warn("saving the node ID failed", "family", f, "error", err)
	}
}

// vote considers what a node that answered us says about our address.
func (n *Node) vote(f Family, voter, addr netip.Addr) {
	changed, settled := n.external[f].vote(voter, addr, time.Now())
	if changed {
		n.readdressed(f, "other nodes see us at another address")
	}
	if changed || settled {
		n.changed()
		poke(n.moved)
	}
}

// locate looks whether the host has got another address since.
func (n *Node) locate() {
	for f, s := range n.primary {
		if s == nil {
			continue
		}
		was := n.asksReadOnly(Family(f))
		if n.external[f].at(n.hostAddr(s)) {
			n.readdressed(Family(f), "this host has another address")
		}
		if n.asksReadOnly(Family(f)) != was {
			n.changed()
		}
	}
}

// awaitVotes begins the wait for votes with the first answer.
func (n *Node) awaitVotes(f Family) {
	if !n.external[f].heard() {
		return
	}
	n.spawn(func() {
		if n.sleep(context.Background(), settleTime) != nil {
			return
		}
		waited, changed := n.external[f].settle()
		if changed {
			n.readdressed(f, "this host has another address")
		}
		if waited {
			n.changed()
			n.log.Info("too few nodes have told our address", "family", f, "id", n.ID(f))
			poke(n.moved)
		}
	})
}

// readdressed gives us an ID that fits our address, if ours does not. Our contacts are those that are likely to know us by
// the old one: they hear of the new one by being pinged.
func (n *Node) readdressed(f Family, why string) {
	addr, old := n.external[f].address(), n.ID(f)
	id := old
	if !n.mayKeep(old, addr) {
		id = n.newID(f, addr)
		n.mu.Lock()
		n.tables[f].SetSelf(id)
		contacts := n.tables[f].Contacts()
		n.mu.Unlock()
		n.count(eventIDChanged)
		n.publish() // before anybody hears of the new ID, and pings us for it
		n.spawn(func() { n.pingAll(context.Background(), contacts) })
	}
	n.log.Info(why, "family", f, "address", addr, "id", id, "was", old)
	n.saveIdentity(f)
}
