package router

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"kdht/bpf"
	"kdht/bpf/limit"
)

// Config is what a [Node] is made from. Only Conns is required.
type Config struct {
	// Conns are the sockets, one or more of either family; [Listen] opens UDP ones. The node owns and closes them.
	Conns []Conn
	// Store keeps items, peers, known nodes, IDs and token secrets. A node without one stores nothing for others
	// and forgets everything at its end.
	Store Storage
	// Kernel is the half of the node in the kernel, if there is one. See also [Node.SetKernel].
	Kernel Kernel
	// Bootstrap are nodes to begin with, host:port. An empty list makes the first node of a network. See also
	// [Node.SetHints].
	Bootstrap []string
	// Resolver turns the host names in Bootstrap into addresses. Default: the system's.
	Resolver Resolver
	// Private says that this is a network of our own: private and loopback addresses are nodes like any others, and
	// node IDs are not bound to addresses (BEP 42).
	Private bool
	// ReadOnly makes a client: it queries with "ro" (BEP 43), answers nobody, and keeps no table up to date. It does answer the ping of a
	// node that owes it an answer: a node that is flooded asks for that proof of its address before it answers.
	ReadOnly bool
	// External are our addresses as others see them, at most one per family. A family that has none here begins with
	// the host's own address, if it is public, and learns from the nodes that we query (BEP 42).
	External []netip.Addr
	// NewID makes our ID in a family at an address, which is the zero Addr where it is not known or IDs are not bound to
	// addresses. It must be one that BEP 42 allows there. Default: a random one, and that of last time while it fits.
	NewID func(Family, netip.Addr) ID
	// QueryRate bounds the queries that the node sends of its own accord, per second. Default 250. Those for clients have a bound
	// of their own, [Recursion.QueryRate].
	QueryRate int
	// Recursion is about queries that this node looks up for clients. Default: none.
	Recursion Recursion
	// Limits bound what others may ask. The zero value sets none; Unproven and Queries mean nothing here.
	Limits limit.Config
	// Tuning is for networks with needs of their own.
	Tuning Tuning
	// Logger is where the node says what it does. Default: nowhere.
	Logger *slog.Logger
}

// Kernel is the half of a node in the kernel, as far as the router needs it; *bpf.Program is one.
type Kernel interface {
	// Publish replaces what the kernel answers from.
	Publish(*bpf.Snapshot) error
	// Hold makes the kernel pass queries for a key up, because something is stored under it here. It ends what SetHotItem
	// or SetHotPeers began.
	Hold(key [20]byte) error
	// Release ends what Hold began.
	Release(key [20]byte) error
	// SetHotItem makes the kernel answer get for a key from a verified item, for a time; bpf.ErrNoHot if it has no room.
	SetHotItem(key [20]byte, it *bpf.HotItem, ttl time.Duration) error
	// SetHotPeers makes the kernel answer get_peers for an infohash likewise.
	SetHotPeers(key [20]byte, peers *bpf.HotPeers, ttl time.Duration) error
	// Cool ends what SetHotItem or SetHotPeers began: once it has returned, no query that arrives is answered from it.
	Cool(key [20]byte) error
	// HotHits calls f with how often the kernel has answered for each hot key since it became one.
	HotHits(f func(key [20]byte, hits uint64)) error
	// Prove tells the kernel that somebody has proved to be at an address.
	Prove(netip.Addr) error
	// Expect tells the kernel that a query of ours goes to an address.
	Expect(netip.Addr) error
	// Pace makes the kernel keep to a pace when it sends queries to nodes. It returns where it counts them, in which the
	// router counts its own; nil: the kernel sends none.
	Pace(limit.Pace) (*limit.Destinations, error)
}

// Resolver looks up host names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}
