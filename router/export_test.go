package router

import (
	"net/netip"
	"time"

	"kdht/bpf/limit"
)

// FillTable puts n contacts at random places of the network into the IPv4 table, as if they had answered.
func (n *Node) FillTable(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tables[IPv4]
	for i := 0; t.Len() < count; i++ {
		id := t.randomIn(i%24, -1)
		t.Responded(Contact{ID: id, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 6881)}, time.Millisecond, time.Now())
	}
	n.changed()
}

// Table returns the contacts of a family's table, and of its replacement caches.
func (n *Node) Table(f Family) []Contact {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tables[f].Contacts()
}

// KernelTime returns a time on the clock that the node shares with the kernel half. In virtual time it goes on from when the node was made.
func (n *Node) KernelTime(t time.Time) limit.Time { return n.guard.time(t) }

// Counted returns how much is counted as under way or waiting for the sake of recursion, by clients and in all.
func (n *Node) Counted() int {
	rs := n.recursor
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.budget.mu.Lock()
	defer rs.budget.mu.Unlock()
	return len(rs.running) + len(rs.queue) + len(rs.active) + len(rs.begun) + rs.sum + len(rs.waiting) + len(rs.each) + rs.total + len(rs.budget.clients)
}
