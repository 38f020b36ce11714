package router

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kdht/router/krpc"
)

const (
	// peersPart of the memory for fetched items is for peers.
	peersPart = 8
	// cachedPeers is how many of an infohash are kept; an answer has room for 115.
	cachedPeers = 128
	// Memory of an entry without peers, and of a peer, about.
	peersOverhead = 200
	peerBytes     = 32
)

// peerCache keeps peers that recursions found, for a short while: those least recently asked for give way. That none were
// found is not kept, and neither are the numbers for a scrape. Safe for concurrent use.
type peerCache struct {
	limit int64
	ttl   time.Duration

	mu    sync.Mutex
	of    map[peersKey]*list.Element // of *foundPeers
	order *list.List                 // the latest first
	bytes int64
}

type peersKey struct {
	infohash ID
	noSeed   bool
}

type foundPeers struct {
	key     peersKey
	peers   []netip.AddrPort
	expires time.Time
}

func (f *foundPeers) cost() int64 { return peersOverhead + peerBytes*int64(len(f.peers)) }

func newPeerCache(limit int64, ttl time.Duration) *peerCache {
	return &peerCache{limit: limit, ttl: ttl, of: make(map[peersKey]*list.Element), order: list.New()}
}

// get returns peers, which nobody changes any more, for a get_peers; nil if there are none.
func (c *peerCache) get(q *krpc.Message, now time.Time) []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.of[peersKey{q.InfoHash, q.NoSeed}]
	if e == nil || q.Scrape {
		return nil
	}
	f := e.Value.(*foundPeers)
	if !now.Before(f.expires) {
		c.remove(e)
		return nil
	}
	c.order.MoveToFront(e)
	return f.peers
}

// add keeps the peers that were found for a get_peers.
func (c *peerCache) add(q *krpc.Message, peers []netip.AddrPort, now time.Time) {
	if q.Scrape || len(peers) == 0 {
		return
	}
	f := &foundPeers{key: peersKey{q.InfoHash, q.NoSeed}, peers: slices.Clone(peers[:min(len(peers), cachedPeers)]), expires: now.Add(c.ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.of[f.key]; e != nil {
		c.remove(e)
	}
	c.of[f.key] = c.order.PushFront(f)
	c.bytes += f.cost()
	for c.bytes > c.limit {
		c.remove(c.order.Back())
	}
}

// forget drops the peers of an infohash, because there is another one.
func (c *peerCache) forget(infohash ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, noSeed := range []bool{false, true} {
		if e := c.of[peersKey{infohash, noSeed}]; e != nil {
			c.remove(e)
		}
	}
}

func (c *peerCache) remove(e *list.Element) {
	f := c.order.Remove(e).(*foundPeers)
	delete(c.of, f.key)
	c.bytes -= f.cost()
}
