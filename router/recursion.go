package router

import (
	"cmp"
	"context"
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
	// Also reports whether a client beside those, who sent something to an address of ours, may ask as well; nil: nobody. It must
	// not block. The kernel half does nothing for them.
	Also func(from, to netip.Addr) bool
	// QueryRate bounds the queries of all recursions of user space together, per second; those of the node itself have a bound
	// of their own, [Config.QueryRate]. When they are short, clients have equal parts. Default 1,000.
	QueryRate int
	// MaxLookups bounds the recursions under way. As many others may wait. Default 128.
	MaxLookups int
	// MaxPerClient bounds how many queries of one IPv4 address or IPv6 /64 wait for a recursion. Default 32.
	MaxPerClient int
	// CacheBytes bounds the items that are kept after a recursion fetched them, overhead included, and an eighth of it peers that
	// were found. Default 4 MiB.
	CacheBytes int64
	// CacheTTL is how long a fetched mutable item is served before it is looked up again; somebody else may have put a
	// newer version meanwhile; peers that were found likewise. Default 30 s. An immutable item stays until room is needed, at most for 2 hours.
	CacheTTL time.Duration
}

const (
	recursionRate         = 1000
	maxRecursions         = 128
	maxRecursionsOfClient = 32
	// leastRecursions may be under way whatever is left of the budget; pumpPause is how often those that wait are looked at.
	leastRecursions = 4
	pumpPause       = 20 * time.Millisecond
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
	set(&c.QueryRate, recursionRate)
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
	first   *job         // of the client that asked first
	host    netip.Addr   // as which the client counts; guarded by the mutex of the recursor
	begun   time.Time
	known   *headStart
	waiters []*job // guarded by the mutex of the recursor
	over    bool   // the answers are on their way; guarded likewise
	held    bool   // others keep it from beginning; guarded likewise
	// replies are those that the kernel had for the queries that have joined; guarded likewise.
	replies []*reply
}

// recursor has all recursions under way. Safe for concurrent use.
type recursor struct {
	config Recursion
	n      *Node
	cache  *itemCache
	peers  *peerCache
	budget *fairBudget
	kernel atomic.Pointer[KernelRecursion]
	took   recursionTimes

	mu      sync.Mutex
	running map[recursionKey]*recursion // those that wait included
	active  map[netip.Addr]int          // recursions under way, by what they count as
	begun   map[netip.Addr]int          // the same, by the host that asked first, whether it may be forged or not
	sum     int                         // of all hosts
	queue   []*recursion                // those that wait, the oldest first
	pumping bool                        // somebody looks whether they may begin
	waiting map[netip.Addr]int          // clients' queries, by what they count as
	each    map[netip.Addr]int          // the same, by host, whether it may be forged or not
	total   int                         // of all hosts
	given   answers
}

func newRecursor(n *Node, c Recursion) *recursor {
	c = c.orDefaults()
	return &recursor{
		config: c, n: n, cache: newItemCache(c.CacheBytes, c.CacheTTL), peers: newPeerCache(c.CacheBytes/peersPart, c.CacheTTL),
		budget: newFairBudget(c.QueryRate), active: make(map[netip.Addr]int), begun: make(map[netip.Addr]int),
		running: make(map[recursionKey]*recursion), waiting: make(map[netip.Addr]int), each: make(map[netip.Addr]int), given: newAnswers(),
	}
}

// allows reports whether who sent a datagram may ask for recursion.
func (rs *recursor) allows(p *Packet, s *socket) bool {
	a := p.Addr.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(rs.config.Allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	if rs.config.Also == nil {
		return false
	}
	local := p.Local
	if !local.IsValid() {
		local = s.conn.LocalAddr().Addr()
	}
	return rs.config.Also(a, local)
}

// recurse answers a query that asks for recursion, or has it answered later. It returns false if the query is to be
// answered as if it were not recursive.
func (r *responder) recurse(p *Packet) bool {
	m, rs := &r.m, r.n.recursor
	if !rs.allows(p, r.s) {
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
			r.n.hot.ask(m.Target, false, r.now)
			r.answerItemOf(p, it)
			return true
		}
	case krpc.MethodGetPeers:
		if !m.Scrape && r.answerHeldPeers(p) {
			r.n.count(eventRecursionHeld)
			return true
		}
		if peers := rs.peers.get(m, r.now); peers != nil {
			r.n.count(eventRecursionCached)
			r.n.hot.askPeers(m, r.now)
			r.answerPeersOf(p, peers)
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
	admitted, ask := rs.admit(&job{m: r.m, data: p.Data, s: r.s, from: p.Addr, local: p.Local}, r.now, nil)
	if ask {
		r.doubtful = true
		r.add(p, r.challenge(p, r.room()))
	}
	if admitted {
		return true
	}
	if rs.hostOf(p.Addr.Addr()) == unprovenClients { // there is more for those who are not forged
		r.doubtful = true
		r.add(p, r.challenge(p, r.room()))
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
	if err != nil || it.Mutable && !r.n.nearest(r.m.Target, bucketSize/2) {
		return false
	}
	r.n.hot.ask(r.m.Target, false, r.now)
	return r.answerItemOf(p, itemOf(it))
}

// answerHeldPeers answers a get_peers from the store, if there are peers and others would look for those of all families that are
// wanted here too: else they may be but a few of those that there are.
func (r *responder) answerHeldPeers(p *Packet) bool {
	m, own := &r.m, FamilyOf(p.Addr.Addr())
	wanted := m.Want | wantOf(own)
	if !r.n.holds(m.InfoHash) {
		return false
	}
	for _, f := range []Family{IPv4, IPv6} {
		if wanted&wantOf(f) != 0 && r.n.othersHavePeers(f, m.InfoHash) {
			return false
		}
	}
	if wanted == wantOf(own) {
		return r.composePeers(p) && len(r.reply.m.Values) > 0 && r.send(p)
	}
	found := &peerSet{known: make(map[netip.AddrPort]bool)}
	r.n.addHeld(found, m.InfoHash, hotPeers, m.NoSeed)
	if len(found.list) == 0 {
		return false
	}
	r.n.hot.askPeers(m, r.now)
	return r.answerPeersOf(p, found.mixed())
}

// othersHavePeers reports whether other nodes are where peers of a family are announced, so that what is stored here may be but a few of them.
func (n *Node) othersHavePeers(f Family, infohash ID) bool {
	return n.tables[f] != nil && !n.nearestOf(f, infohash, bucketSize)
}

// nearest reports whether this node is one of the k closest to a target that it knows, in one of its families: then
// others look here too, all the more surely the smaller k, for there may be closer ones that it does not know.
func (n *Node) nearest(target ID, k int) bool {
	return n.nearestOf(IPv4, target, k) || n.nearestOf(IPv6, target, k)
}

// nearestOf is nearest in one family, which is where others announce peers of that family.
func (n *Node) nearestOf(f Family, target ID, k int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tables[f]
	if t == nil {
		return false
	}
	c := t.Closest(target, k)
	return len(c) < k || Closer(target, t.Self(), c[k-1].ID)
}

// admit lets a query wait for its recursion, the one under way if there is one; false if there are too many. ask says that the client is to be
// asked for a proof, while it waits. The query may alias the memory of the caller. known is what the kernel has found out about it.
func (rs *recursor) admit(j *job, begun time.Time, known *headStart) (admitted, ask bool) {
	n, key, host := rs.n, rs.keyOf(j), rs.hostOf(j.from.Addr())
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if b := rs.given.find(j, key, begun); b != nil {
		n.count(eventRecursionRepeated)
		j.s.reply(b, j.from, j.local)
		return true, false
	}
	rec, client := rs.running[key], hostOf(j.from.Addr())
	if rec != nil {
		same := func(w *job) bool { return w.from == j.from && string(w.m.TID) == string(j.m.TID) }
		if i := slices.IndexFunc(rec.waiters, same); i >= 0 {
			n.count(eventRecursionRepeated)
			if !rec.over && rec.host == unprovenClients && host != unprovenClients { // it has proved its address meanwhile
				rs.vouch(rec, host)
			}
			return true, rs.doubts(rec, rec.waiters[i], host)
		}
	}
	if rs.each[client] >= rs.config.MaxPerClient || rs.total >= maxShared*rs.config.MaxLookups || !rs.hasPlace(host, client) {
		n.count(eventRecursionBusy)
		return false, false
	}
	queued := (rec == nil || rec.over) && !rs.mayStart(host)
	if queued && len(rs.queue) >= rs.config.MaxLookups && !rs.makeRoom(host) {
		n.count(eventRecursionBusy)
		return false, false
	}
	if rec != nil && rec.over {
		rec = nil // it has no more to say
	}
	own := &job{data: slices.Clone(j.data), s: j.s, from: j.from, local: j.local, host: host}
	if len(own.data) == 0 {
		own.m = j.m // not from a datagram, and not of somebody else's memory
	} else if krpc.Decode(own.data, &own.m) != nil {
		return false, false // cannot happen: it was decoded from the same bytes
	}
	if rec != nil {
		n.count(eventRecursionShared)
		if rec.host == unprovenClients && host != unprovenClients {
			rs.vouch(rec, host)
		}
		rec.waiters = append(rec.waiters, own)
		if known != nil && known.reply != nil {
			rec.replies = append(rec.replies, known.reply)
		}
		rs.await(own)
		return true, rs.doubts(rec, own, host)
	}
	rec = &recursion{n: n, key: key, q: own.m, first: own, host: host, begun: begun, known: known, waiters: []*job{own}, held: queued}
	if known != nil {
		known.inUse = true
	}
	if queued {
		n.count(eventRecursionQueued)
		rs.queue = append(rs.queue, rec)
		rs.pumpLater()
	} else if !rs.start(rec) {
		return true, false // the node is ending
	}
	rs.running[key] = rec
	rs.await(own)
	return true, rs.doubts(rec, own, host)
}

// doubts reports whether a client that waits for a recursion is to be asked for a proof, and notes that it is: it may be forged, as others may for whose sake the
// recursion is held up.
func (rs *recursor) doubts(rec *recursion, j *job, host netip.Addr) bool {
	if !rec.held || rec.over || host != unprovenClients || rec.host != unprovenClients || !j.canBeAsked() || rs.waiting[host] <= rs.each[hostOf(j.from.Addr())] {
		return false
	}
	j.asked = true
	return true
}

// start begins a recursion; false if the node is ending.
func (rs *recursor) start(rec *recursion) bool {
	if !rs.n.spawn(rec.run) {
		return false
	}
	rs.n.count(eventRecursionBegun)
	rs.active[rec.host]++
	rs.begun[hostOf(rec.first.from.Addr())]++
	rs.sum++
	rs.budget.join(rec.host)
	return true
}

// stop ends a recursion that was begun, and begins one of those that wait: the oldest of the client with the fewest.
func (rs *recursor) stop(rec *recursion) {
	rs.budget.leave(rec.host)
	rs.sum--
	uncount(rs.active, rec.host)
	uncount(rs.begun, hostOf(rec.first.from.Addr()))
	rs.pump()
}

// vouch has a recursion count as that of a client that has joined it and is not forged: neither does it wait any more for those who may
// be, nor has it to share their queries.
func (rs *recursor) vouch(rec *recursion, host netip.Addr) {
	if !slices.Contains(rs.queue, rec) { // it is under way
		rs.budget.leave(rec.host)
		uncount(rs.active, rec.host)
		rs.active[host]++
		rs.budget.join(host)
	}
	rec.host = host
}

// proved has what a client waits for count as its own, now that it has proved its address.
func (rs *recursor) proved(a netip.Addr) {
	host := rs.hostOf(a)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if host == unprovenClients || rs.each[host] == 0 {
		return
	}
	for _, rec := range rs.running {
		if !rec.over && rec.host == unprovenClients && slices.ContainsFunc(rec.waiters, func(j *job) bool { return j.from.Addr() == a }) {
			rs.vouch(rec, host)
		}
	}
	rs.pump()
}

// host returns what a recursion counts as.
func (rs *recursor) host(rec *recursion) netip.Addr {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rec.host
}

// mayStart reports whether a recursion of a client may begin: not if that would only make all others take longer, or all those of
// clients who may be forged.
func (rs *recursor) mayStart(host netip.Addr) bool {
	under, most := rs.sum, rs.config.MaxLookups
	if host == unprovenClients {
		if most = max(1, most/unprovenShare); rs.active[host] >= most {
			return false
		}
		under = rs.active[host]
	}
	return rs.sum < rs.config.MaxLookups && (under < leastRecursions || rs.budget.ample(host, time.Now()))
}

// hostOf returns what a client counts as: its host or, if it may be forged, [unprovenClients].
func (rs *recursor) hostOf(a netip.Addr) netip.Addr {
	if !a.IsLoopback() && !rs.n.guard.vouches(a, time.Now()) {
		return unprovenClients
	}
	return hostOf(a)
}

// mostWaiting is how many queries of a client may wait for a recursion.
func (rs *recursor) mostWaiting(host netip.Addr) int {
	if host == unprovenClients {
		return max(rs.config.MaxPerClient, rs.config.MaxLookups/2)
	}
	return rs.config.MaxPerClient
}

// hasPlace reports whether a query of a client may wait for a recursion, and makes a place for it if that is fair.
func (rs *recursor) hasPlace(host, client netip.Addr) bool {
	return rs.waiting[host] < rs.mostWaiting(host) || host == unprovenClients && rs.displace(client)
}

// pump begins recursions that wait, while there may be more.
func (rs *recursor) pump() {
	for rs.startNext() {
	}
}

// pumpLater has those that wait begin when there is enough of the budget again.
func (rs *recursor) pumpLater() {
	if rs.pumping {
		return
	}
	rs.pumping = rs.n.spawn(func() {
		for rs.n.sleep(context.Background(), pumpPause) == nil {
			rs.mu.Lock()
			rs.endOverdue()
			rs.pump()
			rs.pumping = len(rs.queue) > 0
			more := rs.pumping
			rs.mu.Unlock()
			if !more {
				return
			}
		}
	})
}

// makeRoom makes room in the queue for a client that has less in it than another one, whose latest is answered as if it were not
// recursive; false if there is none.
func (rs *recursor) makeRoom(host netip.Addr) bool {
	queued := make(map[netip.Addr]int)
	last := -1
	for _, q := range rs.queue {
		queued[q.host]++
	}
	for i, q := range rs.queue {
		if last < 0 || queued[q.host] >= queued[rs.queue[last].host] {
			last = i
		}
	}
	if last < 0 || queued[rs.queue[last].host] <= queued[host]+1 {
		return false
	}
	rs.turnAway(last)
	return true
}

// displace makes room among the clients who may be forged for one that has fewer queries there than others, the latest of which for whom none of those who wait
// has few is turned away; false if there is none. So few who ask for much do not keep others out; ever new ones, as a forger has, do.
func (rs *recursor) displace(client netip.Addr) bool {
	last, most := -1, rs.each[client]+2
	for i, q := range rs.queue {
		if q.host != unprovenClients || rs.hostOf(q.first.from.Addr()) != unprovenClients {
			continue
		}
		least := rs.total
		for _, j := range q.waiters {
			least = min(least, rs.each[hostOf(j.from.Addr())])
		}
		if least >= most {
			last, most = i, least
		}
	}
	if last < 0 {
		return false
	}
	rs.turnAway(last)
	return true
}

// endOverdue turns away those who have waited for so long that a lookup would not end in time.
func (rs *recursor) endOverdue() {
	for i := len(rs.queue) - 1; i >= 0; i-- {
		if time.Since(rs.queue[i].begun) > recursionTime-recursionLeast {
			rs.turnAway(i)
		}
	}
}

// turnAway takes a recursion out of the queue. Who waits for it is answered as if the query were not recursive, or asked for a proof, once, if he may be
// forged: there is more for those who are not.
func (rs *recursor) turnAway(i int) {
	rec, n := rs.queue[i], rs.n
	rs.queue = slices.Delete(rs.queue, i, i+1)
	delete(rs.running, rec.key)
	rec.over = true
	jobs := rs.dismiss(rec)
	n.spawn(func() { // system calls, not under the mutex
		n.dismiss(rec.known)
		for _, j := range jobs {
			n.count(eventRecursionBusy)
			if n.recursor.hostOf(j.from.Addr()) != unprovenClients || !j.asked && !j.challenge(n) {
				j.answerPlainly(n)
			}
		}
	})
}

// startNext begins one that waits and may begin: of those who count as the one with the fewest, the oldest of the client with the fewest; false if there is none.
func (rs *recursor) startNext() bool {
	next := -1
	may := make(map[netip.Addr]bool)
	for i, q := range rs.queue {
		ok, seen := may[q.host]
		if !seen {
			ok = rs.mayStart(q.host)
			may[q.host] = ok
		}
		if ok && (next < 0 || rs.hasLess(q, rs.queue[next])) {
			next = i
		}
	}
	if next < 0 {
		return false
	}
	q := rs.queue[next]
	q.held = false
	rs.queue = slices.Delete(rs.queue, next, next+1)
	rs.start(q)
	return true
}

// hasLess reports whether who asked for a has fewer recursions under way than who asked for b: all that count as the same, then the client alone.
func (rs *recursor) hasLess(a, b *recursion) bool {
	return cmp.Or(
		cmp.Compare(rs.active[a.host], rs.active[b.host]),
		cmp.Compare(rs.begun[hostOf(a.first.from.Addr())], rs.begun[hostOf(b.first.from.Addr())]),
	) < 0
}

// end closes a recursion, and returns who waits for its answer.
func (rs *recursor) end(rec *recursion) []*job {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rec.over = true
	rs.stop(rec)
	return rs.dismiss(rec)
}

// await counts a query that waits for a recursion, until dismiss does no longer.
func (rs *recursor) await(j *job) {
	rs.waiting[j.host]++
	rs.each[hostOf(j.from.Addr())]++
	rs.total++
}

// dismiss returns who waits for a recursion, and counts them no longer.
func (rs *recursor) dismiss(rec *recursion) []*job {
	rs.total -= len(rec.waiters)
	for _, j := range rec.waiters {
		uncount(rs.waiting, j.host)
		uncount(rs.each, hostOf(j.from.Addr()))
	}
	return rec.waiters
}

// uncount takes one from a count, of which there is none when it is 0.
func uncount(counts map[netip.Addr]int, a netip.Addr) {
	if counts[a]--; counts[a] <= 0 {
		delete(counts, a)
	}
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
