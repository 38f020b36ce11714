package router

import "context"

// Node is one node of the DHT: a server to others, and a client to its user.
type Node struct{}

// New makes a node. It answers queries and sends some once [Node.Run] runs.
func New(c Config) (*Node, error) { return nil, ErrClosed }

// Run serves until the context ends, then saves the table, closes the sockets and returns nil. It may be called once.
func (n *Node) Run(ctx context.Context) error { return ErrClosed }

// Ready is closed once the node has found its place in the network: it knows the nodes around its ID, or is the first
// node of the network (no bootstrap nodes configured).
func (n *Node) Ready() <-chan struct{} { return nil }

// ID returns the node ID in a family.
func (n *Node) ID(f Family) ID { return ID{} }

// Sighting tells the node of a sender of queries that the kernel half has answered.
func (n *Node) Sighting(c Contact) {}

// SetKernel gives the node another kernel half, or none. What is held here is made known to it, then the tables.
func (n *Node) SetKernel(k Kernel) error { return nil }
