package router

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kdht/bpf"
	"kdht/router/krpc"
)

const (
	// hotAfter is how many queries for a key that is held here, or was fetched before, make it hot, if the configuration does not say.
	hotAfter = 8
	// hotHalfLife is how long it takes until a query counts half.
	hotHalfLife = 10 * time.Second
	// hotIdle is how long a key that nobody asks for stays hot.
	hotIdle = time.Minute
	// hotTick is how often it is seen which keys are asked for, and large swarms are mixed anew.
	hotTick = time.Second
	// hotPause is the least time between two versions of a swarm in the kernel.
	hotPause = 50 * time.Millisecond
	// hotPeers is how many peers are given to the kernel; no reply has room for more.
	hotPeers = 115
	// maxAsked bounds the cold keys whose queries are counted.
	maxAsked = 4096
	// maxOffers bounds the fetched items, and lists of peers, that wait to be given to the kernel: 4 MiB at most.
	maxOffers = 1024
	// hotLife bounds how long an item is answered from before it is read again, and hotRecheck how long it takes until it is seen that
	// other queries for a key can be answered here than before, because there are other nodes.
	hotLife    = 10 * time.Minute
	hotRecheck = 10 * time.Second
)

// hot decides which keys the kernel half answers for. What user space answers is counted here, and what is asked for often
// is given to the kernel, which counts from then on.
//
// No old version outlives the acknowledgement of a put: the put first changes the store, then takes what is known to the
// kernel away (forget), then tells. What is given to the kernel was read from the store before that, so it is marked in
// pending meanwhile, and not given if the mark is gone.
type hot struct {
	after  float64
	kernel atomic.Bool // there is one
	wake   chan struct{}

	mu      sync.Mutex
	floor   float64 // without more than this, a key finds no room until the next tick
	asked   map[ID]*asked
	entries map[ID]*hotEntry // in the kernel
	pending map[ID]bool      // being read for the kernel
	due     map[ID]time.Time // to be given to the kernel then
	offers  map[ID]offer
}

// asked is how often a cold key is asked for.
type asked struct {
	score float64
	at    time.Time
	peers bool // by get_peers
}

// hotEntry is a key in the kernel.
type hotEntry struct {
	score   float64 // as of the last tick
	hits    uint64  // then
	used    time.Time
	set     time.Time
	expires time.Time
	peers   bool
	mutable bool
	seq     int64 // of a mutable item
	partial bool  // there are more peers than the kernel has
	large   bool
	fetched bool          // not held here
	queries [2]bpf.HotFor // by family; the same for an item
	checked time.Time     // when it was seen that these are the queries
}

// offer is an item that a lookup has found, or peers, and until when they may be answered from.
type offer struct {
	item    *Item
	peers   []netip.AddrPort
	expires time.Time
}

func newHot(after int) *hot {
	return &hot{
		after: float64(after), wake: make(chan struct{}, 1),
		asked: map[ID]*asked{}, entries: map[ID]*hotEntry{}, pending: map[ID]bool{}, due: map[ID]time.Time{}, offers: map[ID]offer{},
	}
}

// decayed is what a score is worth after a time.
func decayed(score float64, d time.Duration) float64 {
	return score * math.Exp2(-float64(d)/float64(hotHalfLife))
}

// ask counts a query that user space answers with what is held here or was fetched.
func (h *hot) ask(key ID, peers bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, least := h.entries[key], max(h.after-1, h.floor) // each is worth a little less by now
	switch {
	case e != nil && e.peers == peers:
		return // the kernel has it, and passes what it cannot answer
	case e != nil: // as what it is asked for more
		least = max(least, e.score)
	}
	a := h.asked[key]
	if a == nil {
		if len(h.asked) >= maxAsked {
			h.forgetColdest(now)
		}
		a = new(asked)
		h.asked[key] = a
	}
	a.score, a.at, a.peers = decayed(a.score, now.Sub(a.at))+1, now, peers
	if !h.kernel.Load() || a.score <= least || h.pending[key] {
		return
	}
	if _, planned := h.due[key]; !planned {
		h.due[key] = now
		poke(h.wake)
	}
}

// askPeers counts a get_peers likewise.
func (h *hot) askPeers(q *krpc.Message, now time.Time) {
	if !q.NoSeed && !q.Scrape { // the kernel half answers without filter only
		h.ask(q.InfoHash, true, now)
	}
}

// forgetColdest makes room for another key to be counted, at the expense of the coldest of a few.
func (h *hot) forgetColdest(now time.Time) {
	var coldest ID
	best, looked := math.Inf(1), 0
	for key, a := range h.asked { // in random order
		if s := decayed(a.score, now.Sub(a.at)); s < best {
			coldest, best = key, s
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(h.asked, coldest)
}

// plan has a key given to the kernel, again or for the first time. h.mu is held.
func (h *hot) plan(key ID, at time.Time) {
	if old, planned := h.due[key]; !planned || at.Before(old) {
		h.due[key] = at
		poke(h.wake)
	}
}

// take returns a key whose time has come, marked as pending, or when the next one's will; the zero time for none.
func (h *hot) take(now time.Time) (key ID, peers, ok bool, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, at := range h.due {
		if at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		delete(h.due, k)
		h.pending[k] = true
		e, a := h.entries[k], h.asked[k]
		o, offered := h.offers[k]
		switch {
		case offered:
			peers = o.peers != nil
		case e != nil && (a == nil || decayed(a.score, now.Sub(a.at)) <= e.score): // else it is asked for more as the other kind
			peers = e.peers
		case a != nil:
			peers = a.peers
		}
		return k, peers, true, time.Time{}
	}
	return key, false, false, next
}

// forget is called when what is held under a key has changed. It reports whether the kernel answers for it.
func (h *hot) forget(key ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pending, key)
	delete(h.offers, key)
	e := h.entries[key]
	delete(h.entries, key)
	if e == nil {
		return false
	}
	if a := h.asked[key]; a != nil && a.peers != e.peers && decayed(a.score, time.Since(a.at)) < e.score {
		delete(h.asked, key)
	}
	h.remember(key, e, time.Now())
	return true
}

// remember counts on how often a key is asked for that the kernel answers for no more, unless it is counted already. h.mu is held.
func (h *hot) remember(key ID, e *hotEntry, now time.Time) {
	if h.asked[key] == nil && len(h.asked) < maxAsked {
		h.asked[key] = &asked{score: e.score, at: now, peers: e.peers}
	}
}

// forgetFetched is called when other nodes have been given something under a key. It reports whether the kernel answers with what was
// fetched before.
func (h *hot) forgetFetched(key ID) bool {
	h.mu.Lock()
	delete(h.pending, key)
	delete(h.offers, key)
	e := h.entries[key]
	h.mu.Unlock()
	return e != nil && e.fetched && h.forget(key)
}

// outdate is called when a version of a mutable item is known that may be newer than the kernel's. It reports whether the kernel answers
// with an older one.
func (h *hot) outdate(key ID, seq int64) bool {
	h.mu.Lock()
	delete(h.pending, key) // what is being read may be older as well
	e := h.entries[key]
	older := e != nil && e.mutable && e.seq < seq
	h.mu.Unlock()
	return older && h.forget(key)
}

// keepsOlder reports whether the kernel answers with an older version of a mutable item, or may be given one at this moment.
func (h *hot) keepsOlder(it *Item) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.entries[it.Target]
	return it.Mutable && (h.pending[it.Target] || e != nil && e.mutable && e.seq < it.Seq)
}

// again has a key given to the kernel soon that it answered for until now.
func (h *hot) again(key ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plan(key, time.Now())
}

// changedPeers reports whether the kernel answers for the peers of an infohash that are held here, and has it given the present ones soon.
func (h *hot) changedPeers(key ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending[key] {
		return false
	}
	e := h.entries[key]
	if e == nil || !e.peers || e.fetched {
		return false
	}
	h.plan(key, e.set.Add(hotPause))
	return true
}

// reset forgets what the kernel knows: there is another, or none.
func (h *hot) reset(kernel bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kernel.Store(kernel)
	clear(h.entries)
	clear(h.pending)
	clear(h.offers)
}

// offer has the kernel answer recursive queries for an item that a lookup has found or a client has put elsewhere, or for peers, until
// they expire. An item was verified, and nobody changes them any more.
func (h *hot) offer(key ID, o offer) {
	if !h.kernel.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[key]; e != nil && e.peers != (o.peers != nil) {
		return // an item's target is no infohash, unless somebody makes it one
	}
	if _, known := h.offers[key]; !known && len(h.offers) >= maxOffers {
		for other := range h.offers { // any of those that wait: it comes again when it is asked for
			delete(h.offers, other)
			break
		}
	}
	h.offers[key] = o
	h.plan(key, time.Now())
}

// takeOffer returns what was offered last; the zero offer if nothing was.
func (h *hot) takeOffer(key ID) offer {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.offers[key]
	delete(h.offers, key)
	return o
}

// forgetItem takes an item from the kernel and from what was fetched, because a newer version is being stored.
func (n *Node) forgetItem(key ID) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.hot.forget(key) {
		n.cool(key)
		if n.holds(key) {
			n.hot.again(key)
		}
	}
}

// forgetPeers ends that anybody is told the peers of an infohash that were found, because there is another one.
func (n *Node) forgetPeers(infohash ID) {
	n.recursor.outdatePeers(infohash)
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.hot.forgetFetched(infohash) {
		n.cool(infohash)
	}
}

// keepFetched keeps an item that a lookup has found, and returns the newest version of it that is known here. When it returns, the kernel
// gives nobody an older one any more.
func (n *Node) keepFetched(it *Item, now time.Time) *Item {
	it = n.recursor.cache.add(it, n.localItem, now)
	if !it.Mutable || !n.hot.kernel.Load() {
		return it
	}
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.hot.outdate(it.Target, it.Seq) {
		n.cool(it.Target)
		n.hot.again(it.Target)
	}
	return it
}

// cool takes a key from the kernel. n.publishing is held.
func (n *Node) cool(key ID) {
	n.count(eventCooled)
	if n.kernel == nil {
		return
	}
	if err := n.kernel.Cool(key); err != nil {
		n.log.Error("the kernel half goes on answering for a key", "key", key, "error", err)
	}
}

// keepHot gives the kernel what is asked for often, and takes from it what is not.
func (n *Node) keepHot(ctx context.Context) {
	tick := time.NewTicker(hotTick)
	defer tick.Stop()
	for {
		next := n.heatDue()
		var later <-chan time.Time
		var t *time.Timer
		if !next.IsZero() {
			t = time.NewTimer(time.Until(next))
			later = t.C
		}
		select {
		case <-ctx.Done():
		case <-n.hot.wake:
		case <-later:
		case <-tick.C:
			n.coolIdle()
		}
		if t != nil {
			t.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// heatDue gives the kernel what is due, and returns when more will be.
func (n *Node) heatDue() time.Time {
	for {
		key, peers, ok, next := n.hot.take(time.Now())
		if !ok {
			return next
		}
		if !n.hot.kernel.Load() {
			n.hot.leave(key)
			continue
		}
		if peers {
			n.heatPeers(key)
		} else {
			n.heatItem(key)
		}
	}
}

// isPending reports whether what is known under a key is the same as when it was taken.
func (h *hot) isPending(key ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pending[key]
}

// leave ends that a key is pending, with the kernel answering as before.
func (h *hot) leave(key ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pending, key)
}

// decline is leave for a key that has to be asked for as often again.
func (h *hot) decline(key ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pending, key)
	delete(h.asked, key)
}

// wanted reports whether the kernel answers for a key, or it is asked for so often that it is to.
func (h *hot) wanted(key ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.asked[key]
	return h.entries[key] != nil || a != nil && a.score > h.after-1
}

// heatItem gives the kernel the newest version of an item that is known here, or takes it away if there is none.
func (n *Node) heatItem(key ID) {
	var it *Item
	expires, fetched := time.Now().Add(hotLife), !n.holds(key)
	if !fetched {
		stored, err := n.store.Item(key)
		if err == nil {
			it = itemOf(stored)
			if !stored.Own && stored.Expires.Before(expires) {
				expires = stored.Expires
			}
		}
	}
	// What was offered is a version that the cache need not have any more; what the kernel had before was offered long ago.
	for _, o := range []offer{n.hot.takeOffer(key), n.recursor.cache.offer(key, time.Now())} {
		if o.item != nil && (it == nil || it.Mutable && o.item.Seq > it.Seq) {
			it, expires = o.item, o.expires
		}
	}
	var e *hotEntry
	if it != nil {
		e = &hotEntry{expires: expires, fetched: fetched, mutable: it.Mutable, seq: it.Seq}
	}
	n.heat(key, false, e, func() error {
		hot := bpf.HotItem{V: it.V, Mutable: it.Mutable, K: it.K, Seq: it.Seq, Sig: it.Sig}
		e.queries = n.hotFor(key, e)
		hot.For = e.queries[0]
		e.large = hot.Large()
		return n.kernel.SetHotItem(key, &hot, time.Until(expires))
	})
}

// hotFor says which queries for a key may be answered with what is known here, by their family.
func (n *Node) hotFor(key ID, e *hotEntry) (queries [2]bpf.HotFor) {
	for f := range queries {
		switch {
		case e.fetched:
			queries[f] = bpf.Recursive
		case e.peers && n.othersHavePeers(Family(f), key):
			queries[f] = bpf.Plain
		case e.mutable && !n.nearest(key, bucketSize/2): // others may have a newer version
			queries[f] = bpf.Plain
		}
	}
	return queries
}

// heatPeers gives the kernel the peers of an infohash that are stored here, or else those that a lookup has found, or takes them away if
// there are none.
func (n *Node) heatPeers(key ID) {
	e := &hotEntry{expires: time.Now().Add(hotLife), peers: true, fetched: !n.holds(key)}
	var lists [2][]netip.AddrPort
	o := n.hot.takeOffer(key)
	if !e.fetched {
		if o.peers != nil && !n.hot.wanted(key) { // a lookup has ended, though they are stored here
			n.hot.leave(key)
			return
		}
		lists = n.heldPeers(key, e)
	} else {
		if o.peers == nil {
			o = n.recursor.peers.offer(key, time.Now())
		}
		e.expires = o.expires
		for _, p := range o.peers {
			f := FamilyOf(p.Addr())
			lists[f] = append(lists[f], p)
		}
	}
	if len(lists[IPv4])+len(lists[IPv6]) == 0 {
		e = nil
	}
	n.heat(key, true, e, func() error {
		e.queries = n.hotFor(key, e)
		hot := bpf.HotPeers{IPv4: lists[IPv4], IPv6: lists[IPv6], ForIPv4: e.queries[IPv4], ForIPv6: e.queries[IPv6]}
		e.large = hot.Large()
		return n.kernel.SetHotPeers(key, &hot, time.Until(e.expires))
	})
}

// heldPeers returns the peers of an infohash that are stored here, and notes in e how long they will be and whether there are more.
func (n *Node) heldPeers(key ID, e *hotEntry) (lists [2][]netip.AddrPort) {
	for f := range lists {
		peers, until, err := n.store.PeersUntil(key, Family(f) == IPv6, hotPeers+1)
		if err != nil {
			n.log.Warn("reading peers failed", "infohash", key, "error", err)
			return [2][]netip.AddrPort{}
		}
		if len(peers) > hotPeers {
			peers, e.partial = peers[:hotPeers], true
		}
		if len(peers) > 0 && until.Before(e.expires) {
			e.expires = until
		}
		for _, p := range peers {
			lists[f] = append(lists[f], p.Addr)
		}
	}
	return lists
}

// counted is how many answers of the kernel's have been taken over, which go on being counted when the entry is replaced; 0 without one.
func (e *hotEntry) counted() uint64 {
	if e == nil {
		return 0
	}
	return e.hits
}

// heat has set give the kernel an entry, unless what is held has changed since it was read; nil: there is nothing to give.
// Without room, what the kernel has of the key has to go, and then the coldest of the keys that are colder than this one. What was offered, and few have asked for again, takes
// nobody's room.
func (n *Node) heat(key ID, peers bool, e *hotEntry, set func() error) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if !n.hot.isPending(key) || e != nil && e.fetched == n.holds(key) {
		n.hot.leave(key)
		n.hot.again(key)
		return
	}
	if n.kernel == nil {
		n.hot.leave(key)
		return
	}
	now := time.Now()
	old := n.hot.entry(key)
	score, asked := n.hot.score(key, peers, now)
	if old != nil && old.peers != peers && (e == nil || asked <= old.score) {
		// It is asked for as a target and as an infohash, and more often as what it is in the kernel, which may have changed.
		n.hot.decline(key)
		n.hot.again(key)
		return
	}
	if e == nil || !now.Before(e.expires) {
		n.giveUp(key)
		return
	}
	if old != nil && !old.fetched || e.fetched {
		e.hits = old.counted()
	} else {
		// The store names a key from before it has committed it, and hold comes after.
		if err := n.kernel.Hold(key); err != nil {
			n.log.Error("the kernel half does not know of a key that is held here", "key", key, "error", err)
		}
	}
	evict := old != nil || asked >= n.hot.after/2
	err := set()
	if old != nil && errors.Is(err, bpf.ErrNoHot) && !errors.Is(err, bpf.ErrNoHotKey) { // the room of the old one comes before that of others
		n.cool(key)
		e.hits = 0
		err = set()
	}
	for evict && errors.Is(err, bpf.ErrNoHot) && !errors.Is(err, bpf.ErrNoHotKey) {
		victim, ok := n.hot.coldest(key, e.large, score)
		if !ok {
			break
		}
		n.hot.forget(victim)
		n.cool(victim)
		err = set()
	}
	switch {
	case err == nil:
		n.count(eventHeated)
		e.score, e.used, e.set, e.checked = score, now, now, now
		n.hot.enter(key, e)
	case errors.Is(err, bpf.ErrNoHot):
		n.count(eventNoHot)
		if !evict {
			n.hot.leave(key)
			return
		}
		if !errors.Is(err, bpf.ErrNoHotKey) {
			n.hot.full(e.large)
		}
		n.giveUp(key)
	default:
		n.log.Warn("the kernel half does not answer for a key", "key", key, "error", err)
		n.giveUp(key)
	}
}

// giveUp ends that the kernel answers for a key. It has to be asked for as often again. n.publishing is held.
func (n *Node) giveUp(key ID) {
	if n.hot.refused(key) {
		n.cool(key)
	}
}

// full has no key tried, until the next tick, that is asked for less often than all that the kernel has of this size.
func (h *hot) full(large bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	floor := math.Inf(1)
	for _, e := range h.entries {
		if e.large == large {
			floor = min(floor, e.score)
		}
	}
	if !math.IsInf(floor, 1) {
		h.floor = max(h.floor, floor)
	}
}

// entry returns what the kernel has of a key; nil for nothing.
func (h *hot) entry(key ID) *hotEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[key]; e != nil {
		clone := *e
		return &clone
	}
	return nil
}

// score is how often a key is asked for as an infohash, or as a target: just now, at least. asked is the part of it that user space has answered,
// or how often it is asked for as the other if the kernel answers for it as this.
func (h *hot) score(key ID, peers bool, now time.Time) (score, asked float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, a := h.entries[key], h.asked[key]
	score = 1.0
	if e != nil && e.peers == peers {
		score = e.score
	}
	if a != nil {
		asked = decayed(a.score, now.Sub(a.at))
		if a.peers == peers {
			score += asked
		}
	}
	return score, asked
}

// coldest returns the coldest key whose entry could make room.
func (h *hot) coldest(but ID, large bool, below float64) (coldest ID, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, e := range h.entries {
		if key != but && e.large == large && e.score < below {
			coldest, below, ok = key, e.score, true
		}
	}
	return coldest, ok
}

// enter notes what the kernel answers for.
func (h *hot) enter(key ID, e *hotEntry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.entries[key]; old != nil {
		e.used = old.used
	}
	h.entries[key] = e
	if a := h.asked[key]; a != nil && a.peers == e.peers {
		delete(h.asked, key)
	}
	delete(h.pending, key)
}

// refused notes that the kernel is not to answer for a key, and reports whether it does.
func (h *hot) refused(key ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.entries[key] != nil
	delete(h.entries, key)
	delete(h.asked, key)
	delete(h.pending, key)
	return was
}

// coolIdle looks at which keys were asked for, and at which of their queries can be answered here now that other nodes are known.
func (n *Node) coolIdle() {
	now := time.Now()
	n.coolCold(now)
	for key, e := range n.hot.unsure(now) { // takes long, with a lookup in the table for each: no put waits for that
		if n.hotFor(key, &e) != e.queries {
			n.hot.again(key)
		}
	}
}

// coolCold takes from the kernel the keys that nobody asks for and those that have expired; swarms of which it has a part are mixed anew.
func (n *Node) coolCold(now time.Time) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.kernel != nil && n.hot.len() > 0 {
		hot := make(map[ID]bool, n.hot.len())
		if err := n.kernel.HotHits(func(key [20]byte, hits uint64) { hot[key] = true; n.hot.hit(key, hits, now) }); err != nil {
			n.log.Warn("reading which keys are hot failed", "error", err)
		} else {
			n.hot.keep(hot, now)
		}
	}
	for _, key := range n.hot.idle(now) {
		n.cool(key)
	}
}

// keep forgets what the kernel answers for no more of itself, as when a key that is held here needed the room.
func (h *hot) keep(hot map[ID]bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, e := range h.entries {
		if hot[key] {
			continue
		}
		delete(h.entries, key)
		h.remember(key, e, now)
	}
}

// unsure returns the keys of which it is to be seen which queries the kernel may answer. Those that are not held here are for
// recursive ones until they are.
func (h *hot) unsure(now time.Time) map[ID]hotEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[ID]hotEntry{}
	for key, e := range h.entries {
		if !e.fetched && now.Sub(e.checked) >= hotRecheck {
			e.checked = now
			all[key] = *e
		}
	}
	return all
}

// len is how many keys the kernel answers for.
func (h *hot) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.entries)
}

// HotKey is a key that is asked for often.
type HotKey struct {
	Key    ID
	Rate   float64 // queries per second, smoothed over half a minute
	Peers  bool    // it is an infohash that get_peers asks for
	Kernel bool    // the kernel half answers
}

// maxHottest bounds the keys that statistics name.
const maxHottest = 10

// hottest returns the keys that are asked for most.
func (h *hot) hottest(now time.Time) []HotKey {
	// At a steady rate r a score comes to r times the sum of all that a query will ever be worth.
	perScore := math.Ln2 / hotHalfLife.Seconds()
	h.mu.Lock()
	all := make([]HotKey, 0, len(h.entries)+len(h.asked))
	for key, e := range h.entries {
		all = append(all, HotKey{key, e.score * perScore, e.peers, true})
	}
	for key, a := range h.asked {
		if h.entries[key] == nil {
			all = append(all, HotKey{key, decayed(a.score, now.Sub(a.at)) * perScore, a.peers, false})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b HotKey) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), bytes.Compare(a.Key[:], b.Key[:]))
	})
	return all[:min(len(all), maxHottest)]
}

// hit takes over how often the kernel has answered for a key.
func (h *hot) hit(key ID, hits uint64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.entries[key]
	if e == nil {
		return
	}
	delta := hits - min(e.hits, hits)
	e.score = decayed(e.score, hotTick) + float64(delta)
	if e.hits = hits; delta > 0 {
		e.used = now
	}
}

// idle forgets the keys that are to be taken from the kernel, and plans those that are to be read again.
func (h *hot) idle(now time.Time) (keys []ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floor = 0
	for key, e := range h.entries {
		wanted := now.Sub(e.used) < hotIdle
		switch {
		case wanted && e.peers && !e.fetched && (e.partial || !now.Before(e.expires)):
			h.plan(key, now)
		case !wanted || !now.Before(e.expires):
			keys = append(keys, key)
			delete(h.entries, key)
			if wanted { // what was fetched is to be looked up again
				h.remember(key, e, now)
			}
		}
	}
	for key, a := range h.asked {
		if decayed(a.score, now.Sub(a.at)) < 0.25 {
			delete(h.asked, key)
		}
	}
	return keys
}
