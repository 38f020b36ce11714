package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// index is what is kept in memory of the file: which items there are and when they
// expire (not their content), all peers, and who is charged for how much. About 50
// bytes per item and 60 per peer.
type index struct {
	items   map[Key]uint32 // target → time of expiry, never for own items
	own     map[Key]uint32 // own items → time of the last put
	swarms  map[Key]*swarm
	sources map[source]int64 // cost charged
	bytes   int64            // cost of all items and peers
	peers   int
	serial  uint32 // of the next peer record
	state   state
}

func newIndex() index {
	return index{
		items:   make(map[Key]uint32),
		own:     make(map[Key]uint32),
		swarms:  make(map[Key]*swarm),
		sources: make(map[source]int64),
	}
}

// has reports whether there is an item or a peer for a key, be it expired.
func (x *index) has(k Key) bool {
	_, item := x.items[k]
	return item || x.swarms[k] != nil
}

// charge adds cost, which may be negative, to the total and to a source.
func (x *index) charge(src source, cost int64) {
	x.bytes += cost
	if src == 0 || cost == 0 {
		return
	}
	if n := x.sources[src] + cost; n != 0 {
		x.sources[src] = n
	} else {
		delete(x.sources, src)
	}
}

// load builds the index from the file. What makes no sense there is damage.
func (s *Store) load(db *bbolt.DB) error {
	x := newIndex()
	var saved *progress
	err := db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketItems, bucketExpiry, bucketOwn, bucketPeers, bucketState} {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: no bucket %s", ErrDamaged, name)
			}
		}
		if err := tx.Bucket(bucketExpiry).ForEach(x.loadExpiry); err != nil {
			return err
		}
		if err := tx.Bucket(bucketOwn).ForEach(x.loadOwn); err != nil {
			return err
		}
		if err := tx.Bucket(bucketPeers).ForEach(x.loadPeer); err != nil {
			return err
		}
		x.state = loadState(tx.Bucket(bucketState))
		if v, ok := unseal(tx.Bucket(bucketState).Get(keyClock)); ok {
			saved = parseProgress(v)
		}
		trim(tx)
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.index = x
	s.mu.Unlock()
	s.clock.saved = time.Time{}
	if saved != nil {
		s.clock.saved = saved.store
	}
	if s.clock.opened.IsZero() {
		s.clock.start(saved, x.lastStored(s.opt.ItemTTL, s.opt.PeerTTL))
	}
	return nil
}

// lastStored is when the last of the entries was stored that expire.
func (x *index) lastStored(itemTTL, peerTTL time.Duration) (last time.Time) {
	stored := func(expires uint32, ttl time.Duration) {
		if t := time.Unix(int64(expires), 0).Add(-ttl); expires != never && t.After(last) {
			last = t
		}
	}
	for _, expires := range x.items {
		stored(expires, itemTTL)
	}
	for _, w := range x.swarms {
		stored(w.expires, peerTTL)
	}
	return last
}

func (x *index) loadExpiry(k, v []byte) error {
	if len(k) != expiryKeySize || len(v) != expiryValueSize {
		return fmt.Errorf("%w: expiry entry of %d and %d bytes", ErrDamaged, len(k), len(v))
	}
	expires, target := parseExpiryKey(k)
	if _, ok := x.items[target]; ok {
		return fmt.Errorf("%w: item %x expires twice", ErrDamaged, target)
	}
	c := parseCharge(v)
	if c.cost > maxItemCost {
		return fmt.Errorf("%w: item %x costs %d bytes", ErrDamaged, target, c.cost)
	}
	x.items[target] = expires
	x.charge(c.source, c.cost)
	return nil
}

func (x *index) loadOwn(k, v []byte) error {
	if len(k) != len(Key{}) || len(v) != ownValueSize {
		return fmt.Errorf("%w: own entry of %d and %d bytes", ErrDamaged, len(k), len(v))
	}
	target := Key(k)
	if _, ok := x.items[target]; ok {
		return fmt.Errorf("%w: item %x is own and expires", ErrDamaged, target)
	}
	cost := int64(binary.BigEndian.Uint32(v[4:]))
	if cost > maxItemCost {
		return fmt.Errorf("%w: own item %x costs %d bytes", ErrDamaged, target, cost)
	}
	x.items[target] = never
	x.own[target] = binary.BigEndian.Uint32(v)
	x.charge(0, cost)
	return nil
}

func (x *index) loadPeer(k, v []byte) error {
	ih, p, err := parsePeer(k, v)
	if err != nil {
		return err
	}
	if x.swarm(ih).find(p.addr, p.port) != nil {
		return fmt.Errorf("%w: peer of %x announced twice", ErrDamaged, ih)
	}
	x.addPeer(ih, p)
	x.serial = max(x.serial, p.serial+1)
	return nil
}
