package router

import (
	"iter"
	"net/netip"
	"time"

	"kdht/store"
)

// Storage is what the router needs of the store; *store.Store is one. The methods are documented there.
type Storage interface {
	PutItem(it *store.Item, cas *int64, from netip.Addr) error
	Item(target [20]byte) (*store.Item, error)
	OwnItems() ([]*store.Item, error)
	Announce(infohash [20]byte, addr netip.AddrPort, seed bool, from netip.Addr) error
	Peers(infohash [20]byte, ipv6 bool, max int, noSeeds bool, dst []store.Peer) ([]store.Peer, error)
	PeersUntil(infohash [20]byte, ipv6 bool, max int) ([]store.Peer, time.Time, error)
	Sample(max int) (samples [][20]byte, total int)
	Holds(key [20]byte) bool
	Keys() iter.Seq[[20]byte]
	OnRelease(fn func(key store.Key))
	Expire(now time.Time) (n int, err error)

	SaveNodes(nodes []store.Node) error
	Nodes() ([]store.Node, error)
	SetIdentity(ipv6 bool, id store.Identity) error
	Identity(ipv6 bool) (store.Identity, error)
	SetSecrets(x store.Secrets) error
	Secrets() (store.Secrets, error)
}

var _ Storage = (*store.Store)(nil)
