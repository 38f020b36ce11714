package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"kdht/router/krpc"
	"kdht/store"
)

// GetImmutable looks up the item with a target, which is its hash, and ends with the first valid one. ErrNotFound if
// there is none, ErrNoNodes if nobody answered.
func (n *Node) GetImmutable(ctx context.Context, target ID, opts ...Option) (*ItemResult, error) {
	if it := n.localItem(target); it != nil && !it.Mutable {
		return &ItemResult{Item: *it, Copies: 1, Local: true}, nil
	}
	l := n.newLookup(target, getQuery(target), opts)
	if it := l.cachedItem(); it != nil && !it.Mutable {
		return &ItemResult{Item: *it, Copies: 1}, nil
	}
	var found *Item
	l.onAnswer = func(_ *candidate, r *reply) bool {
		if r.V == nil || krpc.ImmutableTarget(r.V) != target || krpc.CheckValue(r.V) != nil {
			return false
		}
		found = &Item{Target: target, V: r.V}
		l.progress.Found, l.hit = 1, true
		return true
	}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	return l.itemResult(found, 1, false)
}

// GetMutable looks up the item of a key and salt, and returns the newest that is validly signed. Errors are as with
// [Node.GetImmutable].
func (n *Node) GetMutable(ctx context.Context, k [32]byte, salt []byte, opts ...Option) (*ItemResult, error) {
	l, found := n.mutableLookup(k, salt, opts)
	if it := l.cachedItem(); it != nil && it.Mutable && (found.item == nil || it.Seq >= found.item.Seq) {
		return &ItemResult{Item: *it, Copies: 1}, nil
	}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	return l.itemResult(found.item, found.copies, found.local)
}

// cachedItem returns what was fetched lately, if the caller accepts that; else nil.
func (l *lookup) cachedItem() *Item {
	if !l.options.cached {
		return nil
	}
	return l.n.recursor.cache.get(l.target, time.Now())
}

func (l *lookup) itemResult(found *Item, copies int, local bool) (*ItemResult, error) {
	r := &ItemResult{Stats: l.stats()}
	if found == nil {
		if l.progress.Answered == 0 {
			return r, ErrNoNodes
		}
		return r, ErrNotFound
	}
	switch cache := l.n.recursor.cache; {
	case l.options.cached && !local, // what is stored here needs no other place
		cache.keepsOlder(found), l.n.hot.keepsOlder(found):
		found = l.n.keepFetched(found, time.Now())
	default:
		found = cache.newest(found, l.n.localItem)
	}
	r.Item, r.Copies, r.Local = *found, copies, local
	return r, nil
}

func getQuery(target ID) krpc.Message {
	return krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}
}

// localItem returns what is stored here under a target, or nil.
func (n *Node) localItem(target ID) *Item {
	if !n.holds(target) {
		return nil
	}
	it, err := n.store.Item(target)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			n.log.Warn("reading an item failed", "target", target, "error", err)
		}
		return nil
	}
	return itemOf(it)
}

func itemOf(it *store.Item) *Item {
	return &Item{Target: it.Target, V: it.V, Mutable: it.Mutable, K: it.K, Salt: it.Salt, Seq: it.Seq, Sig: it.Sig}
}

// newest is the newest version of a mutable item that a lookup has found.
type newest struct {
	item   *Item
	copies int
	local  bool
}

// mutableLookup prepares the lookup of a mutable item, which begins with what is known here.
func (n *Node) mutableLookup(k [32]byte, salt []byte, opts []Option) (*lookup, *newest) {
	target := krpc.MutableTarget(k[:], salt)
	l := n.newLookup(target, getQuery(target), opts)
	found := &newest{item: n.localItem(target)}
	if found.item != nil {
		found.copies, found.local = 1, true
	}
	l.progress.Found = found.copies
	l.onAnswer = func(_ *candidate, r *reply) bool {
		if r.V == nil || !r.HasSeq || found.item != nil && r.Seq < found.item.Seq ||
			krpc.CheckValue(r.V) != nil || !krpc.Verify(k[:], salt, r.Seq, r.V, r.Sig) {
			return false
		}
		if found.item != nil && r.Seq == found.item.Seq {
			found.copies++
		} else {
			*found = newest{copies: 1, item: &Item{
				Target: target, V: r.V, Mutable: true, K: k, Salt: salt, Seq: r.Seq, Sig: [64]byte(r.Sig),
			}}
		}
		l.progress.Found, l.hit = found.copies, true
		return false
	}
	return l, found
}

// PutImmutable stores a bencoded value at the nodes closest to its hash. The error is nil if at least one node, which
// may be this one, stored it.
func (n *Node) PutImmutable(ctx context.Context, v []byte, opts ...Option) (*StoreResult, error) {
	if err := krpc.CheckValue(v); err != nil {
		return nil, err
	}
	it := Item{Target: krpc.ImmutableTarget(v), V: v}
	l := n.newLookup(it.Target, getQuery(it.Target), opts)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	return l.putItem(ctx, it, nil, l.options.client)
}

// PutMutable stores a signed item at the nodes closest to its target. With cas, a node takes it only in place of an
// item with that sequence number, or of none. The error is nil if at least one node, which may be this one, stored
// it, and fewer refused it for a conflict with what they have than took it. Otherwise it is a *krpc.Error: with the code
// that most gave, or, if the lookup has found the conflict already and nothing was sent, with the one they would give.
func (n *Node) PutMutable(ctx context.Context, item Item, cas *int64, opts ...Option) (*StoreResult, error) {
	return n.UpdateMutable(ctx, item.K, item.Salt, func(*Item) (Item, *int64, error) { return item, cas, nil }, opts...)
}

// UpdateMutable looks up a mutable item, calls build with the newest version found, or with nil if there is none, and
// stores what build returns, under the condition cas if that is not nil; all in one lookup. An error of build ends it
// and is returned.
func (n *Node) UpdateMutable(ctx context.Context, k [32]byte, salt []byte, build func(current *Item) (next Item, cas *int64, err error), opts ...Option) (*StoreResult, error) {
	l, found := n.mutableLookup(k, salt, opts)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	it, cas, err := build(found.item)
	if err != nil {
		return nil, err
	}
	it.Target, it.Mutable = l.target, true
	switch {
	case it.K != k || string(it.Salt) != string(salt):
		return nil, fmt.Errorf("%w: an item of another key or salt", ErrInvalidItem)
	case len(it.Salt) > krpc.MaxSalt:
		return nil, krpc.ErrSaltSize
	case it.Seq < 0:
		return nil, krpc.ErrArgSeq
	case krpc.CheckValue(it.V) != nil:
		return nil, krpc.CheckValue(it.V)
	case !krpc.Verify(it.K[:], it.Salt, it.Seq, it.V, it.Sig[:]):
		return nil, krpc.ErrSignature
	}
	if err := conflict(found.item, it, cas); err != nil {
		return nil, err
	}
	return l.putItem(ctx, it, cas, l.options.client)
}

// conflict returns the error that every node with the current version would answer a put of the next one with. To tell
// here spares nodes with an older version, or none, from taking what the others refuse.
func conflict(current *Item, next Item, cas *int64) error {
	switch {
	case current == nil:
		return nil
	case cas != nil && *cas != current.Seq:
		return krpc.ErrCAS
	case next.Seq < current.Seq, next.Seq == current.Seq && !bytes.Equal(next.V, current.V):
		return krpc.ErrSeq
	}
	return nil
}

// putItem stores an item after the lookup of its target, for a client or, if that is the zero Addr, for ourselves.
func (l *lookup) putItem(ctx context.Context, it Item, cas *int64, client netip.Addr) (res *StoreResult, err error) {
	m := krpc.Message{Method: krpc.MethodPut, V: it.V}
	if it.Mutable {
		m.K, m.Sig, m.Salt, m.Seq, m.HasSeq = it.K[:], it.Sig[:], it.Salt, it.Seq, true
		if len(it.Salt) == 0 {
			m.Salt = nil
		}
		if cas != nil {
			m.CAS, m.HasCAS = *cas, true
		}
	}
	defer func() { l.n.afterPut(it, err == nil && !l.options.keep) }()
	local := func(own bool) error {
		return l.n.keepItem(&store.Item{
			Target: it.Target, V: it.V, Mutable: it.Mutable, K: it.K, Salt: it.Salt, Seq: it.Seq, Sig: it.Sig, Own: own,
		}, cas, client)
	}
	if l.options.keep && l.n.store != nil {
		if err := local(true); err != nil {
			return nil, krpcError(err)
		}
		return l.write(ctx, m, func(Family) error { return nil })
	}
	once := sync.OnceValue(func() error { return local(false) }) // not again for the other family
	return l.write(ctx, m, func(Family) error { return once() })
}

// afterPut ends that an older version of an item is given to anybody, before its put is acknowledged: where it is not stored here,
// one may be known from a lookup, and one that is under way may find it still.
func (n *Node) afterPut(it Item, stored bool) {
	n.recursor.cache.forget(it.Target)
	if stored && it.Mutable {
		n.recursor.cache.outdate(it, time.Now())
	}
	n.recursor.outdate(it.Target)
	n.forgetItem(it.Target)
}
