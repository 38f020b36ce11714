package router

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

var (
	errNobodyAnswered = &krpc.Error{Code: krpc.ErrCodeServer, Text: "no node answered"}
	errNobodyStored   = &krpc.Error{Code: krpc.ErrCodeServer, Text: "no node acknowledged in time"}
)

// put stores an item for a client at the closest nodes (BEP 44). An immutable one is stored here too, since it cannot
// become old; a mutable one only if this node is among the closest, where those who change it look.
func (rec *recursion) put() {
	n, m := rec.n, &rec.q
	target, err := krpc.CheckPut(m)
	if err != nil {
		rec.refuse(krpcError(err))
		return
	}
	it := Item{Target: target, V: m.V}
	var l *lookup
	found := new(newest)
	var cas *int64
	if m.K == nil {
		l = n.newLookup(target, getQuery(target), nil)
		l.here = true
	} else {
		it.Mutable, it.K, it.Salt, it.Seq, it.Sig = true, [32]byte(m.K), m.Salt, m.Seq, [64]byte(m.Sig)
		if m.HasCAS {
			cas = &m.CAS
		}
		l, found = n.mutableLookup(it.K, it.Salt, nil)
	}
	rec.prepare(l, min(rec.left(), recursionSearch))
	if l.run(context.Background()) != nil {
		rec.drop()
		return
	}
	if err := conflict(found.item, it, cas); err != nil {
		rec.refuse(krpcError(err))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rec.left())
	defer cancel()
	res, err := l.putItem(ctx, it, cas, rec.first.from.Addr())
	if err == nil && it.Mutable {
		n.recursor.cache.add(&it, n.localItem, time.Now())
	}
	rec.acknowledge(l, res, err)
}

// announcePeer tells the closest nodes of a client's peer, for a client that others see at our address, in the families where they do. Nodes take the
// peer's address from the announce (BEP 5), so for other clients there is nobody to tell but ourselves.
func (rec *recursion) announcePeer() {
	n, m := rec.n, &rec.q
	peer, ok := peerOf(m, rec.first.from)
	if !ok {
		rec.refuse(krpc.ErrArgPort)
		return
	}
	families := n.speaksFor(rec.first)
	if len(families) == 0 {
		res := &StoreResult{Target: m.InfoHash}
		err := n.keepPeer(m.InfoHash, peer, m.Seed, rec.first.from.Addr())
		res.Local = err == nil
		rec.acknowledge(nil, res, err)
		return
	}
	l, _ := n.peersLookup(m.InfoHash, []Option{WithFamilies(families...)})
	rec.prepare(l, min(rec.left(), recursionSearch))
	if l.run(context.Background()) != nil {
		rec.drop()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rec.left())
	defer cancel()
	res, err := l.write(ctx, announceOf(m.InfoHash, peer.Port(), m.Seed), func(f Family) error {
		addr := n.external[f].address()
		if !addr.IsValid() {
			return errNoAddress
		}
		return n.keepPeer(m.InfoHash, netip.AddrPortFrom(addr, peer.Port()), m.Seed, rec.first.from.Addr())
	})
	n.forgetPeers(m.InfoHash)
	rec.acknowledge(l, res, err)
}

// speaksFor returns the families in which other nodes see a client at this node's address: all if it is on the same host, and IPv4 if it is behind
// the same NAT, which IPv6 does without.
func (n *Node) speaksFor(j *job) []Family {
	a, local := j.from.Addr(), j.local
	if !local.IsValid() {
		local = j.s.conn.LocalAddr().Addr()
	}
	external := n.external[j.s.family].address()
	private := func(a netip.Addr) bool { return !Usable(netip.AddrPortFrom(a, 1), false) }
	switch {
	case a.IsLoopback(), a == local, a == external && j.s.family == IPv6:
		return []Family{IPv4, IPv6}
	case j.s.family == IPv4 && (a == external || private(a) && external.IsValid() && !private(external)):
		return []Family{IPv4}
	}
	return nil
}

// acknowledge answers a put or announce_peer.
func (rec *recursion) acknowledge(l *lookup, res *StoreResult, err error) {
	var e *krpc.Error
	switch {
	case err == nil:
	case errors.Is(err, ErrClosed):
		rec.drop()
		return
	case errors.As(err, &e):
		rec.n.count(eventRecursionRefused)
		rec.refuse(e)
		return
	case errors.Is(err, ErrNoNodes) && l.progress.Answered == 0:
		rec.n.count(eventRecursionUnfinished)
		rec.refuse(errNobodyAnswered)
		return
	case errors.Is(err, ErrNoNodes), errors.Is(err, context.DeadlineExceeded):
		rec.n.count(eventRecursionUnfinished)
		rec.refuse(errNobodyStored)
		return
	default:
		rec.n.count(eventRecursionRefused)
		rec.refuse(krpcError(err))
		return
	}
	stored := int64(len(res.Stored))
	if res.Local {
		stored++
	}
	rec.n.count(eventRecursionStored)
	rec.answer(nil, func(c *composer, _ *krpc.Message) {
		c.m.Stored, c.m.HasStored = stored, true
		c.m.Recursive = true
	})
}
