package router

import (
	"context"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

const (
	// Bounds of the time for which a recursion that has found something waits for more of it: for a newer version of a
	// mutable item, or for more peers. Within them it is twice what an answer may take here.
	minSettle = 50 * time.Millisecond
	maxSettle = 500 * time.Millisecond
	// settleCopies is how many nodes must have the same version of a mutable item, and none a newer one, for it to be taken as
	// the newest at once.
	settleCopies = 3
	// peersSources is how many hosts must have named peers of a family for others to be waited for no longer than usual, and not at
	// all when the answer is full. Until then a lookup goes on to its end, but for no longer than maxSettle if so many have named peers of
	// the other family, else than peersPatience: the holders may be several slow hops away from who made peers up at once.
	peersSources  = 3
	peersPatience = 2 * time.Second
)

// run carries a recursion out and answers who waits for it.
func (rec *recursion) run() {
	switch rec.q.Method {
	case krpc.MethodGet:
		rec.get()
	case krpc.MethodGetPeers:
		rec.getPeers()
	case krpc.MethodPut:
		rec.put()
	case krpc.MethodAnnouncePeer:
		rec.announcePeer()
	default:
		rec.findNode()
	}
}

// left is the time until the client must have its answer.
func (rec *recursion) left() time.Duration {
	return max(recursionTime-time.Since(rec.begun), recursionLeast)
}

// prepare makes a lookup that of a recursion.
func (rec *recursion) prepare(l *lookup, limit time.Duration) {
	l.hurry, l.limit, l.known = true, limit, rec.known
	l.pacer = clientPacer{rec.n.limiter, rec.n.recursor.budget, func() netip.Addr { return rec.n.recursor.host(rec) }}
	l.late = func() { rec.n.count(eventRecursionLate) }
}

// join gives a lookup that has ended what the kernel has found out for those who joined it. Nobody joins it from now on.
func (rec *recursion) join(l *lookup) {
	rs := rec.n.recursor
	rs.mu.Lock()
	replies := rec.replies
	rec.replies, rec.over = nil, true
	rs.mu.Unlock()
	for _, r := range replies {
		l.onAnswer(nil, r)
	}
}

// settle returns how long to wait for more after something was found.
func (n *Node) settle() time.Duration {
	var slow time.Duration
	for f, s := range n.primary {
		if s != nil {
			slow = max(slow, n.rtt[f].slow(0))
		}
	}
	return min(max(2*slow, minSettle), maxSettle)
}

// get looks up an item. The first that has the right hash is the outcome; of a mutable one the newest version within a
// short time after the first, or that three nodes agree on.
func (rec *recursion) get() {
	n, target, salt := rec.n, rec.q.Target, rec.q.Salt
	l := n.newLookup(target, getQuery(target), nil)
	rec.prepare(l, rec.left())
	found := newest{item: n.localItem(target)} // an old version perhaps, see answerHeldItem
	l.onAnswer = func(_ *candidate, r *reply) bool {
		if r.V == nil {
			return false
		}
		it := r.verified(target, salt)
		switch {
		case it == nil:
			n.count(eventRecursionForged)
			return false
		case !it.Mutable:
			found.item = it
			return true
		case found.item == nil || it.Seq > found.item.Seq:
			found.item, found.copies = it, 1
		case it.Seq == found.item.Seq:
			found.copies++
		}
		l.endWithin(n.settle())
		return found.copies >= settleCopies
	}
	if l.run(context.Background()) != nil {
		rec.drop()
		return
	}
	rec.join(l)
	if found.item == nil {
		found.item = n.localItem(target) // who joined later may know of its put
	}
	if found.item != nil {
		found.item = n.keepFetched(found.item, time.Now())
	}
	rec.answer(l, func(c *composer, q *krpc.Message) {
		c.addToken()
		if found.item != nil {
			n.count(eventRecursionFound)
			c.addItem(q, found.item)
			return
		}
		rec.admitFailure(c, l)
	})
}

// verified returns the item of a response to get if its hash is the target, or if it is signed by a key that, with the
// salt, has that hash; else nil.
func verified(target ID, salt []byte, r *krpc.Message) *Item {
	switch {
	case krpc.CheckValue(r.V) != nil:
		return nil
	case krpc.ImmutableTarget(r.V) == target:
		return &Item{Target: target, V: r.V}
	case r.K == nil || !r.HasSeq || r.Seq < 0 || krpc.MutableTarget(r.K, salt) != target || !krpc.Verify(r.K, salt, r.Seq, r.V, r.Sig):
		return nil
	}
	return &Item{Target: target, V: r.V, Mutable: true, K: [32]byte(r.K), Salt: salt, Seq: r.Seq, Sig: [64]byte(r.Sig)}
}

// getPeers looks up peers: those that are found within a short time after several nodes have named some, or as many as fit in an
// answer. Nobody can check them, and one node may make them up, so if few nodes name any, the lookup goes on to its end, or for peersPatience.
func (rec *recursion) getPeers() {
	n := rec.n
	var opts []Option
	if rec.q.NoSeed {
		opts = append(opts, WithoutSeeds())
	}
	if rec.q.Scrape {
		opts = append(opts, WithScrape())
	}
	l, found := n.peersLookup(rec.q.InfoHash, opts)
	rec.prepare(l, rec.left())
	collect := l.onAnswer
	l.onAnswer = func(c *candidate, r *reply) bool {
		collect(c, r)
		switch {
		case found.sources(IPv4)+found.sources(IPv6) == 0, rec.q.Scrape: // to count them, everybody must be asked
			return false
		case l.settled(found):
			l.endWithin(n.settle())
		case max(found.sources(IPv4), found.sources(IPv6)) >= peersSources:
			l.endWithin(maxSettle)
		default:
			l.endWithin(peersPatience)
		}
		return r.Values != nil && found.adders() >= peersSources && len(found.list) >= krpc.MaxPayload/len("6:"+"aaaapp")
	}
	if l.run(context.Background()) != nil {
		rec.drop()
		return
	}
	rec.join(l)
	n.addHeld(found, rec.q.InfoHash, maxPeers, rec.q.NoSeed) // who joined later may have announced one
	peers := found.mixed()
	n.recursor.peers.add(&rec.q, peers, rec.begun, time.Now())
	rec.answer(l, func(c *composer, q *krpc.Message) {
		c.addToken()
		if q.Scrape && found.counted > 0 {
			c.m.BFSeeds, c.m.BFPeers = found.seeds[:], found.downloaders[:]
		}
		if len(peers) > 0 {
			n.count(eventRecursionFound)
			c.addFound(q, peers)
			return
		}
		rec.admitFailure(c, l)
	})
}

// settled reports whether enough nodes have named peers of every family, or nobody is left to ask there. Nodes that name peers of the one
// say nothing about those of the other, of which a client may want these alone.
func (l *lookup) settled(found *peerSet) bool {
	for f, list := range l.lists {
		if list == nil || found.sources(Family(f)) >= peersSources {
			continue
		}
		if done, _ := list.done(time.Now()); !done || !l.started {
			return false
		}
	}
	return true
}

// findNode looks up the closest nodes.
func (rec *recursion) findNode() {
	l := rec.n.newLookup(rec.q.Target, krpc.Message{Method: krpc.MethodFindNode, Target: rec.q.Target, HasTarget: true}, nil)
	rec.prepare(l, rec.left())
	if l.run(context.Background()) != nil {
		rec.drop()
		return
	}
	rec.answer(l, func(c *composer, _ *krpc.Message) {
		c.m.HasRecursive, c.m.Recursive = true, l.exhaustive()
		if l.progress.Answered > 0 {
			rec.n.count(eventRecursionFound)
		} else {
			rec.n.count(eventRecursionUnfinished)
		}
	})
}

// exhaustive reports whether what a lookup did not find is not there, as far as anybody can tell.
func (l *lookup) exhaustive() bool { return l.complete && !l.starved && l.progress.Answered > 0 }

// admitFailure says that nothing was found, and whether that is certain.
func (rec *recursion) admitFailure(c *composer, l *lookup) {
	c.m.HasRecursive, c.m.Recursive = true, l.exhaustive()
	if c.m.Recursive {
		rec.n.count(eventRecursionNotFound)
	} else {
		rec.n.count(eventRecursionUnfinished)
	}
}

// answer sends everybody who waits the answer to the method, with the closest nodes that a lookup has found, if there was
// one, and with what complete adds.
func (rec *recursion) answer(l *lookup, complete func(*composer, *krpc.Message)) {
	hops := rec.known.followed()
	if l != nil {
		hops += l.hops
	}
	rec.n.recursor.took.add(time.Since(rec.begun), hops)
	v := rec.n.view.Load()
	var c composer
	room := make([]byte, 0, writeSize)
	rec.each(func(j *job) []byte {
		var target *ID
		if l != nil {
			target = &l.target
		}
		c.respond(v, &j.m, target, j.from)
		if l != nil {
			c.replaceNodes(l)
		}
		complete(&c, &j.m)
		c.fit(room)
		c.fillValues(room)
		return j.reply(rec.n, &c.m)
	})
}

// refuse sends everybody who waits an error message.
func (rec *recursion) refuse(e *krpc.Error) {
	rec.each(func(j *job) []byte { return j.refuse(rec.n, e) })
}

// each ends the recursion by sending an answer, which it returns, to everybody who waits.
func (rec *recursion) each(send func(*job) []byte) {
	rs := rec.n.recursor
	var sent [][]byte
	for _, j := range rs.end(rec) {
		sent = append(sent, send(j))
	}
	rs.forget(rec, sent)
	rec.n.dismiss(rec.known)
}

// drop ends the recursion without an answer, because the node is ending.
func (rec *recursion) drop() { rec.each(func(*job) []byte { return nil }) }
