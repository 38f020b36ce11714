package store

import (
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/bbolt"
)

// Check makes sure that the file is consistent: its structure, by bbolt's own check,
// every record's checksum, and that items, index, peers and the accounts in memory
// agree. Writers wait meanwhile. It reads the whole file: for tests and for the
// administrator.
func (s *Store) Check() error {
	return s.submit(func(b *batch) error {
		// bbolt's check looks at pages in a goroutine of its own, which dies on a bad
		// one and takes the process with it.
		if err := verifyFile(s.path); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if b.dirty {
			// Others of this batch are not committed yet, and bbolt checks what is.
			if err := s.checkTx(b.tx); err != nil {
				return err
			}
			return nil
		}
		var errs []error
		for err := range b.tx.Check() {
			errs = append(errs, fmt.Errorf("%w: %w", ErrDamaged, err))
		}
		return errors.Join(append(errs, s.checkTx(b.tx))...)
	}, false)
}

// checkTx compares the buckets with each other and with the index.
func (s *Store) checkTx(tx *bbolt.Tx) error {
	x := newIndex()
	if err := tx.Bucket(bucketExpiry).ForEach(x.loadExpiry); err != nil {
		return err
	}
	if err := tx.Bucket(bucketOwn).ForEach(x.loadOwn); err != nil {
		return err
	}
	if err := tx.Bucket(bucketPeers).ForEach(x.loadPeer); err != nil {
		return err
	}
	records, bytes := 0, int64(x.peers*peerCost)
	err := tx.Bucket(bucketItems).ForEach(func(k, v []byte) error {
		records++
		r := record(v)
		switch _, ok := x.items[Key(k)]; {
		case !ok:
			return fmt.Errorf("%w: item %x is not indexed", ErrDamaged, k)
		case !r.valid(Key(k)):
			return fmt.Errorf("%w: item %x fails its checksum", ErrDamaged, k)
		}
		bytes += r.cost()
		return nil
	})
	y := &s.index
	switch {
	case err != nil:
		return err
	case records != len(x.items):
		return fmt.Errorf("%w: %d items indexed, %d stored", ErrDamaged, len(x.items), records)
	case bytes != x.bytes || bytes != y.bytes:
		return fmt.Errorf("%w: cost is %d, by index %d, in memory %d", ErrDamaged, bytes, x.bytes, y.bytes)
	case !maps.Equal(x.sources, y.sources):
		return fmt.Errorf("%w: charges of sources differ", ErrDamaged)
	case x.peers != y.peers || len(x.swarms) != len(y.swarms):
		return fmt.Errorf("%w: %d peers of %d infohashes, in memory %d of %d",
			ErrDamaged, x.peers, len(x.swarms), y.peers, len(y.swarms))
	case !maps.Equal(x.own, y.own):
		return fmt.Errorf("%w: own items differ", ErrDamaged)
	}
	return nil
}
