package router

import (
	"context"
	"net/netip"
)

// Ping sends one ping.
func (n *Node) Ping(ctx context.Context, addr netip.AddrPort) (Pong, error) { return Pong{}, ErrClosed }

// FindNode looks up the nodes closest to a target. ErrNoNodes if none answered.
func (n *Node) FindNode(ctx context.Context, target ID, opts ...Option) (*NodesResult, error) {
	return nil, ErrClosed
}

// Peers looks up the peers of an infohash. No peers is no error; ErrNoNodes if no node answered.
func (n *Node) Peers(ctx context.Context, infohash ID, opts ...Option) (*PeersResult, error) {
	return nil, ErrClosed
}

// Announce tells the nodes closest to an infohash that this host is a peer of it. Port 0 stands for the UDP source
// port (implied_port). The error is nil if at least one node stored it.
func (n *Node) Announce(ctx context.Context, infohash ID, port uint16, seed bool, opts ...Option) (*StoreResult, error) {
	return nil, ErrClosed
}

// GetImmutable looks up the item with a target, which is its hash, and ends with the first valid one.
func (n *Node) GetImmutable(ctx context.Context, target ID, opts ...Option) (*ItemResult, error) {
	return nil, ErrClosed
}

// GetMutable looks up the item of a key and salt, and returns the newest that is validly signed.
func (n *Node) GetMutable(ctx context.Context, k [32]byte, salt []byte, opts ...Option) (*ItemResult, error) {
	return nil, ErrClosed
}

// PutImmutable stores a bencoded value at the nodes closest to its hash.
func (n *Node) PutImmutable(ctx context.Context, v []byte, opts ...Option) (*StoreResult, error) {
	return nil, ErrClosed
}

// PutMutable stores a signed item at the nodes closest to its target. With cas, a node takes it only in place of an
// item with that sequence number, or of none.
func (n *Node) PutMutable(ctx context.Context, item Item, cas *int64, opts ...Option) (*StoreResult, error) {
	return nil, ErrClosed
}

// UpdateMutable looks up an item, calls build with it, or with nil if there is none, and stores what build returns in
// its place, with cas if there was one, all in one lookup. An error of build ends it and is returned.
func (n *Node) UpdateMutable(ctx context.Context, k [32]byte, salt []byte, build func(current *Item) (Item, error), opts ...Option) (*StoreResult, error) {
	return nil, ErrClosed
}
