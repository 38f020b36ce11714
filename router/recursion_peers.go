package router

import (
	"container/list"
	"maps"
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
	hot   *hot // is offered what is kept

	mu    sync.Mutex
	of    map[peersKey]*list.Element // of *foundPeers
	order *list.List                 // the latest first
	bytes int64
	// outdated is when there was another peer of an infohash: what lookups that had begun before have found lacks it. The latest are
	// kept, and all of those that had begun before since count as outdated.
	outdated map[ID]time.Time
	since    time.Time
}

// maxOutdated bounds how many infohashes are remembered that have another peer.
const maxOutdated = 256

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
	return &peerCache{limit: limit, ttl: ttl, of: make(map[peersKey]*list.Element), order: list.New(), outdated: make(map[ID]time.Time)}
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

// add keeps the peers that a lookup has found for a get_peers, unless there is another one since it began.
func (c *peerCache) add(q *krpc.Message, peers []netip.AddrPort, begun, now time.Time) {
	if q.Scrape || len(peers) == 0 {
		return
	}
	f := &foundPeers{key: peersKey{q.InfoHash, q.NoSeed}, peers: slices.Clone(peers[:min(len(peers), cachedPeers)]), expires: now.Add(c.ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.outdated[q.InfoHash]; !begun.After(c.since) || ok && !begun.After(at) {
		return
	}
	if e := c.of[f.key]; e != nil {
		c.remove(e)
	}
	c.of[f.key] = c.order.PushFront(f)
	c.bytes += f.cost()
	for c.bytes > c.limit && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
	if !q.NoSeed && c.of[f.key] != nil { // the kernel half answers without filter only
		c.hot.offer(q.InfoHash, offer{peers: f.peers, expires: f.expires})
	}
}

// offer returns peers that may be answered from, and until when, as [hot.offer] takes them; the zero offer if there are none.
func (c *peerCache) offer(infohash ID, now time.Time) offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.of[peersKey{infohash: infohash}]; e != nil {
		if f := e.Value.(*foundPeers); now.Before(f.expires) {
			return offer{peers: f.peers, expires: f.expires}
		}
	}
	return offer{}
}

// forget drops the peers of an infohash, because there is another one.
func (c *peerCache) forget(infohash ID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outdated) >= maxOutdated {
		maps.DeleteFunc(c.outdated, func(_ ID, at time.Time) bool { return now.Sub(at) > recursionTime+recursionLeast })
	}
	if len(c.outdated) >= maxOutdated {
		clear(c.outdated)
		c.since = now
	}
	c.outdated[infohash] = now
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
