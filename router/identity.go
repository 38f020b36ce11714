package router

import (
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

// identify chooses our ID and address in a family: those of last time, unless the configuration or the socket tells
// that the address is another by now.
func (n *Node) identify(s *socket) (ID, netip.Addr, bool) {
	var saved store.Identity
	if n.store != nil {
		saved, _ = n.store.Identity(s.family == IPv6) // without one we get a new one
	}
	addr, fixed := saved.External, false
	if local := s.conn.LocalAddr(); Usable(local, n.config.Private) {
		addr = local.Addr()
	}
	for _, a := range n.config.External {
		if FamilyOf(a) == s.family {
			addr, fixed = a.Unmap(), true
		}
	}
	id := ID(saved.ID)
	if id.IsZero() || !n.mayKeep(id, addr) {
		id = newID(n.boundTo(addr))
	}
	return id, addr, fixed
}

// mayKeep reports whether an ID is good at an address.
func (n *Node) mayKeep(id ID, addr netip.Addr) bool {
	return n.config.Private || !addr.IsValid() || krpc.ValidNodeID(id, addr)
}

// boundTo returns the address that IDs are bound to.
func (n *Node) boundTo(addr netip.Addr) netip.Addr {
	if n.config.Private {
		return netip.Addr{}
	}
	return addr
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
	addr, decided := n.external[f].vote(voter, addr, time.Now())
	if !decided {
		return
	}
	old := n.ID(f)
	id := old
	if !n.mayKeep(old, addr) {
		id = newID(addr)
		n.mu.Lock()
		n.tables[f].SetSelf(id)
		n.mu.Unlock()
		n.count(eventIDChanged)
		n.changed()
		poke(n.moved)
	}
	n.log.Info("other nodes see us at another address", "family", f, "address", addr, "id", id, "was", old)
	n.saveIdentity(f)
}
