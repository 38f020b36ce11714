package router

import (
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kdht/router/krpc"
)

// Recursion configures recursive queries (rd): lookups for clients that have no DHT logic, see package krpc.
type Recursion struct {
	// Allow are the prefixes whose queries may be recursive; none: no recursion. To everybody else "rd" counts as absent.
	Allow []netip.Prefix
	// MaxLookups bounds the recursions under way. Default 128.
	MaxLookups int
	// MaxPerClient bounds how many queries of one IPv4 address or IPv6 /64 wait for a recursion. Default 32.
	MaxPerClient int
	// CacheBytes bounds the items that are kept after a recursion fetched them, overhead included. Default 4 MiB.
	CacheBytes int64
	// CacheTTL is how long a fetched mutable item is served before it is looked up again; somebody else may have put a
	// newer version meanwhile. Default 30 s. An immutable item stays until room is needed, at most for 2 hours.
	CacheTTL time.Duration
}

const (
	maxRecursions         = 128
	maxRecursionsOfClient = 32
	// maxShared is how many queries may wait for each recursion that may be under way: their sources may be forged, and
	// many want the same.
	maxShared = 16
	// recursionTime bounds a recursion: the client has its answer within 5 s, the way there included.
	recursionTime = 4500 * time.Millisecond
	// recursionSearch is how much of it the lookup before a put or announce_peer may take.
	recursionSearch = 2800 * time.Millisecond
	// recursionLeast is the time that a recursion has at least, which the kernel may have begun long ago.
	recursionLeast = 500 * time.Millisecond
)

func (c Recursion) orDefaults() Recursion {
	set(&c.MaxLookups, maxRecursions)
	set(&c.MaxPerClient, maxRecursionsOfClient)
	set(&c.CacheBytes, int64(cacheBytes))
	set(&c.CacheTTL, cacheTTL)
	return c
}

// recursionKey stands for everything that makes two recursions the same one.
type recursionKey [sha1.Size]byte

// recursion is one lookup, or one write, for all the clients that want the same.
type recursion struct {
	n       *Node
	key     recursionKey
	q       krpc.Message // of the first client
	client  netip.AddrPort
	begun   time.Time
	known   *headStart
	waiters []*job // guarded by the mutex of the recursor
	over    bool   // the answers are on their way; guarded likewise
}

// recursor has all recursions under way. Safe for concurrent use.
type recursor struct {
	config Recursion
	n      *Node
	cache  *itemCache
	kernel atomic.Pointer[KernelRecursion]

	mu      sync.Mutex
	running map[recursionKey]*recursion
	waiting map[netip.Addr]int // clients' queries, by host
	total   int                // of all hosts
	given   answers
}

func newRecursor(n *Node, c Recursion) *recursor {
	c = c.orDefaults()
	return &recursor{
		config: c, n: n, cache: newItemCache(c.CacheBytes, c.CacheTTL),
		running: make(map[recursionKey]*recursion), waiting: make(map[netip.Addr]int), given: newAnswers(),
	}
}

// allows reports whether a client may ask for recursion.
func (rs *recursor) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(rs.config.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// recurse answers a query that asks for recursion, or has it answered later. It returns false if the query is to be
// answered as if it were not recursive.
func (r *responder) recurse(p *Packet) bool {
	m, rs := &r.m, r.n.recursor
	if !rs.allows(p.Addr.Addr()) {
		r.n.count(eventRecursionDenied)
		return false
	}
	switch m.Method {
	case krpc.MethodGet:
		if r.answerHeldItem(p) {
			r.n.count(eventRecursionHeld)
			return true
		}
		if it := rs.cache.get(m.Target, r.now); it != nil {
			r.n.count(eventRecursionCached)
			r.answerItemOf(p, it)
			return true
		}
	case krpc.MethodGetPeers:
		if !m.Scrape && r.answerHeldPeers(p) {
			r.n.count(eventRecursionHeld)
			return true
		}
	case krpc.MethodFindNode:
	case krpc.MethodPut, krpc.MethodAnnouncePeer:
		if r.n.store == nil {
			r.refuse(p, errNoStore)
			return true
		}
	default:
		return false
	}
	if rs.admit(&job{m: r.m, data: p.Data, s: r.s, from: p.Addr, local: p.Local}, r.now, nil) {
		return true
	}
	if m.Method == krpc.MethodPut || m.Method == krpc.MethodAnnouncePeer {
		r.refuse(p, errBusy) // without a token there is no other way
		return true
	}
	return false
}

// answerHeldItem answers a get from the store, unless what is there may have been replaced where others look: a mutable item
// that is stored here though other nodes are closer to it.
func (r *responder) answerHeldItem(p *Packet) bool {
	if !r.n.holds(r.m.Target) {
		return false
	}
	it, err := r.n.store.Item(r.m.Target)
	if err != nil || it.Mutable && !r.n.nearest(r.m.Target) {
		return false
	}
	r.n.hot.ask(r.m.Target, false, r.now)
	return r.answerItemOf(p, itemOf(it))
}

// answerHeldPeers answers a get_peers from the store, if there are peers and others would look for them here too: else they
// may be but a few of those that there are.
func (r *responder) answerHeldPeers(p *Packet) bool {
	return r.n.holds(r.m.InfoHash) && r.n.nearest(r.m.InfoHash) && r.composePeers(p) && len(r.reply.m.Values) > 0 && r.send(p)
}

// nearest reports whether this node is one of the k closest to a target that it knows, in one of its families: then
// others look here too.
func (n *Node) nearest(target ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.tables {
		if t == nil {
			continue
		}
		if c := t.Closest(target, bucketSize); len(c) < bucketSize || Closer(target, t.Self(), c[bucketSize-1].ID) {
			return true
		}
	}
	return false
}

// admit lets a query wait for its recursion, the one under way if there is one; false if there are too many. The query
// may alias the memory of the caller. known is what the kernel has found out about it.
func (rs *recursor) admit(j *job, begun time.Time, known *headStart) bool {
	n, key, host := rs.n, rs.keyOf(j), hostOf(j.from.Addr())
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if b := rs.given.find(j, key, begun); b != nil {
		n.count(eventRecursionRepeated)
		j.s.reply(b, j.from, j.local)
		return true
	}
	rec := rs.running[key]
	if rec != nil && slices.ContainsFunc(rec.waiters, func(w *job) bool { return w.from == j.from && string(w.m.TID) == string(j.m.TID) }) {
		n.count(eventRecursionRepeated)
		return true
	}
	if rs.waiting[host] >= rs.config.MaxPerClient || rs.total >= maxShared*rs.config.MaxLookups || (rec == nil || rec.over) && len(rs.running) >= rs.config.MaxLookups {
		n.count(eventRecursionBusy)
		return false
	}
	if rec != nil && rec.over {
		rec = nil // it has no more to say
	}
	own := &job{data: slices.Clone(j.data), s: j.s, from: j.from, local: j.local}
	if len(own.data) == 0 {
		own.m = j.m // not from a datagram, and not of somebody else's memory
	} else if krpc.Decode(own.data, &own.m) != nil {
		return false // cannot happen: it was decoded from the same bytes
	}
	if rec != nil {
		n.count(eventRecursionShared)
		rec.waiters = append(rec.waiters, own)
		rs.waiting[host]++
		rs.total++
		return true
	}
	rec = &recursion{n: n, key: key, q: own.m, client: own.from, begun: begun, known: known, waiters: []*job{own}}
	if !n.spawn(rec.run) {
		return true // the node is ending
	}
	n.count(eventRecursionBegun)
	rs.running[key] = rec
	rs.waiting[host]++
	rs.total++
	return true
}

// end closes a recursion, and returns who waits for its answer.
func (rs *recursor) end(rec *recursion) []*job {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rec.over = true
	rs.total -= len(rec.waiters)
	for _, j := range rec.waiters {
		host := hostOf(j.from.Addr())
		if rs.waiting[host]--; rs.waiting[host] <= 0 {
			delete(rs.waiting, host)
		}
	}
	return rec.waiters
}

// forget takes a recursion off the list, and keeps its answers, one for each who waited.
func (rs *recursor) forget(rec *recursion, datagrams [][]byte) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now()
	for i, b := range datagrams {
		rs.given.add(rec.waiters[i], rec.key, b, now)
	}
	if rs.running[rec.key] == rec {
		delete(rs.running, rec.key)
	}
}

// len returns how many recursions are under way.
func (rs *recursor) len() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.running)
}

// keyOf returns what two queries have in common that one recursion can answer. What concerns only the form of the
// answer is not in it: seq of a get, and want.
func (rs *recursor) keyOf(j *job) (key recursionKey) {
	m := &j.m
	h := sha1.New() //nolint:gosec // no secret, and no forger gains by a collision
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	flag := func(set bool) {
		if set {
			h.Write([]byte{1})
		} else {
			h.Write([]byte{0})
		}
	}
	number := func(n int64) { h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	h.Write([]byte{byte(m.Method)})
	switch m.Method {
	case krpc.MethodGet:
		h.Write(m.Target[:])
		field(m.Salt)
	case krpc.MethodGetPeers:
		h.Write(m.InfoHash[:])
		flag(m.NoSeed)
		flag(m.Scrape)
	case krpc.MethodPut:
		for _, b := range [][]byte{m.K, m.Salt, m.Sig, m.V} {
			field(b)
		}
		number(m.Seq)
		flag(m.HasCAS)
		number(m.CAS)
	case krpc.MethodAnnouncePeer:
		h.Write(m.InfoHash[:])
		flag(m.Seed)
		peer, _ := peerOf(m, j.from)
		field([]byte(peer.String()))
		field([]byte(j.from.Addr().String()))
	default:
		h.Write(m.Target[:])
	}
	h.Sum(key[:0])
	return key
}
