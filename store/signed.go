package store

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"
)

// SignedBy returns the mutable items of a public key, with whatever salt, at most max of them, in the order of their salts.
// It reads through all items: some tens of milliseconds for 100,000.
func (s *Store) SignedBy(k [32]byte, max int) ([]*Item, error) {
	var items []*Item
	err := s.view(func(tx *bbolt.Tx) error {
		items = items[:0] // of an attempt on a file that was replaced meanwhile
		c := tx.Bucket(bucketItems).Cursor()
		for target, v := c.First(); target != nil && len(items) < max; target, v = c.Next() {
			r := record(v)
			if len(r) < offSalt || !r.mutable() || !bytes.Equal(r[offKey:offSig], k[:]) || len(target) != len(Key{}) || !r.valid(Key(target)) {
				continue
			}
			items = append(items, record(bytes.Clone(r)).item(Key(target)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	items = slices.DeleteFunc(items, func(it *Item) bool {
		expires, ok := s.index.items[it.Target]
		if it.Own = expires == never; !it.Own {
			it.Expires = s.timeOf(expires)
			it.Updated = it.Expires.Add(-s.opt.ItemTTL)
		} else {
			it.Updated = s.timeOf(s.index.own[it.Target])
		}
		return !ok || expires <= now
	})
	slices.SortFunc(items, func(a, b *Item) int { return bytes.Compare(a.Salt, b.Salt) })
	return items, nil
}
