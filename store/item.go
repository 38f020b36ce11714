package store

import (
	"bytes"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Item is a BEP 44 item. Whoever stores one has verified its hash or signature.
type Item struct {
	Target [20]byte // SHA-1 of V, or of K and Salt
	V      []byte   // the value, bencoded

	Mutable bool
	K       [32]byte // Ed25519 public key, mutable items only, as are those below
	Salt    []byte   // at most 64 bytes, nil if none
	Seq     int64    // sequence number, not negative
	Sig     [64]byte // Ed25519 signature

	// Own marks an item of this node's user: it does not expire, counts against no
	// quota, and is listed by OwnItems, until Disown. It stays own when others put it.
	Own bool

	// Updated is when the item was last put, Expires when it will expire, the zero
	// time for an own item, both by the wall clock of now: if it is set, they move with
	// it. Item sets both, PutItem ignores them.
	Updated, Expires time.Time
}

// Item returns the item of a target, or ErrNotFound. The result is the caller's.
func (s *Store) Item(target [20]byte) (*Item, error) {
	s.mu.RLock()
	expires, ok := s.index.items[target]
	updated := s.index.own[target]
	s.mu.RUnlock()
	if !ok || expires <= s.now() {
		if s.db.Load() == nil {
			return nil, s.unusable()
		}
		return nil, ErrNotFound
	}
	var r record
	err := s.view(func(tx *bbolt.Tx) error {
		r = bytes.Clone(tx.Bucket(bucketItems).Get(target[:]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if r == nil || !r.valid(target) {
		// Expired and removed just now, or rotten.
		return nil, s.dropRotten(target)
	}
	it := r.item(target)
	if expires == never {
		it.Own, it.Updated = true, s.timeOf(updated)
	} else {
		it.Expires = s.timeOf(expires)
		it.Updated = it.Expires.Add(-s.opt.ItemTTL)
	}
	return it, nil
}

// A record that was written and is not found lies where a search does not come: keys of
// its page, or of one above, are out of order, because the disk damaged them after Open
// had checked them, or Open had no time to. The next put could be lost the same way.
var errLost = fmt.Errorf("%w: an item has no record", ErrDamaged)

// dropRotten removes an item whose record is missing or fails its checksum, so that
// Holds tells the truth. It returns ErrNotFound, or the error of the file.
func (s *Store) dropRotten(target Key) error {
	err := s.submit(func(b *batch) error {
		if _, ok := b.expires(target); !ok {
			return nil
		}
		r := record(b.bucket(bucketItems).Get(target[:]))
		if r.valid(target) {
			return nil // put again meanwhile
		}
		if r == nil {
			s.suspect(b.tx.DB(), errLost)
		}
		b.s.log.Error("store: item record is damaged, dropped", "target", target)
		b.removeItem(target)
		return nil
	}, false)
	if err != nil {
		return err
	}
	return ErrNotFound
}
