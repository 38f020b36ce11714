package router

import (
	"errors"
	"net/netip"
	"time"
)

// Errors of operations. A refusal by other nodes is a *krpc.Error with the code most of them gave.
var (
	// ErrNotFound: the nodes that should know do not know.
	ErrNotFound = errors.New("router: not found")
	// ErrNoNodes: no node answered, so nothing is known.
	ErrNoNodes = errors.New("router: no node answered")
	// ErrTimeout: the node that was asked did not answer in time.
	ErrTimeout = errors.New("router: query timed out")
	// ErrUnsent: this host cannot send to that address; the error wraps the reason.
	ErrUnsent = errors.New("router: query not sent")
	// ErrBusy: too many queries are under way, or too many to the same address.
	ErrBusy = errors.New("router: too many queries")
	// ErrNoSocket: the node has no socket of the address's family.
	ErrNoSocket = errors.New("router: no socket for this family")
	// ErrFamilyUnavailable: the host has no such family.
	ErrFamilyUnavailable = errors.New("router: address family not available on this host")
	// ErrInvalidItem: the item to be put contradicts itself.
	ErrInvalidItem = errors.New("router: invalid item")
	// ErrClosed: the node has ended.
	ErrClosed = errors.New("router: node closed")
)

// Pong is the answer to a ping.
type Pong struct {
	ID      ID
	RTT     time.Duration
	Version []byte         // v of the answer, which tells the implementation; may be empty
	IP      netip.AddrPort // our address as the other node sees it (BEP 42); zero if it did not say
}

// NodesResult is the outcome of a find_node lookup.
type NodesResult struct {
	// Nodes are the closest that answered, closest first, at most 8 per family.
	Nodes []Contact
	Stats LookupStats
}

// PeersResult is the outcome of a get_peers lookup.
type PeersResult struct {
	// Peers are the addresses found, each once.
	Peers []netip.AddrPort
	// Nodes are the closest nodes that answered.
	Nodes []Contact
	// Counted is how many nodes gave bloom filters of their peers, if that was asked for (WithScrape); Seeds and
	// Downloaders are what all of these filters together are estimated to hold (BEP 33).
	Counted            int
	Seeds, Downloaders float64
	Stats              LookupStats
}

// Item is a value of BEP 44.
type Item struct {
	Target ID
	// V is the bencoded value.
	V []byte
	// Mutable tells which kind of item this is; the rest is about mutable ones.
	Mutable bool
	K       [32]byte
	Salt    []byte
	Seq     int64
	Sig     [64]byte
}

// ItemResult is the outcome of a get. The hash or signature of the item was verified.
type ItemResult struct {
	Item Item
	// Copies is how many nodes had this very version; for an immutable item the search ends with the first.
	Copies int
	// Local says that this node's own store had it.
	Local bool
	Stats LookupStats
}

// StoreResult is the outcome of a put or announce.
type StoreResult struct {
	Target ID
	// Stored are the nodes that acknowledged.
	Stored []Contact
	// Local says that this node keeps it too, being among the closest itself.
	Local bool
	// Refused are the nodes that answered with an error.
	Refused []Refusal
	// Silent is how many nodes did not answer.
	Silent int
	Stats  LookupStats
}

// Refusal is a node's error reply to a put or announce_peer.
type Refusal struct {
	Node Contact
	Code int // BEP 5, BEP 44
	Text string
}

// LookupStats tells what a lookup cost.
type LookupStats struct {
	Queried, Answered, Failed int
	// Hops is the longest chain of referrals that was followed to a node that answered.
	Hops     int
	Duration time.Duration
}
