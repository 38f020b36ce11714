package store

import (
	"errors"
	"fmt"
	"maps"
	"math"

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

// checkRecords reads all records of a file and builds their index, with what they are charged for in its bytes.
func checkRecords(tx *bbolt.Tx, most int) (*index, error) {
	x := newIndex()
	n := 0
	for _, b := range []struct {
		name []byte
		load func(k, v []byte) error
	}{{bucketExpiry, x.loadExpiry}, {bucketOwn, x.loadOwn}, {bucketPeers, x.loadPeer}} {
		if tx.Bucket(b.name) == nil {
			return nil, fmt.Errorf("%w: bucket %q is missing", ErrDamaged, b.name)
		}
		if err := tx.Bucket(b.name).ForEach(func(k, v []byte) error {
			if n++; n > most {
				return fmt.Errorf("%w: more than %d items and peers", ErrTooMany, most)
			}
			return b.load(k, v)
		}); err != nil {
			return nil, err
		}
	}
	for _, name := range [][]byte{bucketItems, bucketState} {
		if tx.Bucket(name) == nil {
			return nil, fmt.Errorf("%w: bucket %q is missing", ErrDamaged, name)
		}
	}
	if err := tx.Bucket(bucketState).ForEach(func(k, v []byte) error {
		if _, ok := unseal(v); !ok {
			return fmt.Errorf("%w: %q fails its checksum", ErrDamaged, k)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	records, bytes := 0, int64(x.peers*peerCost)
	err := tx.Bucket(bucketItems).ForEach(func(k, v []byte) error {
		records++
		if len(k) != len(Key{}) {
			return fmt.Errorf("%w: item %x is not of a target", ErrDamaged, k)
		}
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
	switch {
	case err != nil:
		return nil, err
	case records != len(x.items):
		return nil, fmt.Errorf("%w: %d items indexed, %d stored", ErrDamaged, len(x.items), records)
	case bytes != x.bytes:
		return nil, fmt.Errorf("%w: cost is %d, by index %d", ErrDamaged, bytes, x.bytes)
	}
	return &x, nil
}

// checkTx compares the buckets with each other and with the index.
func (s *Store) checkTx(tx *bbolt.Tx) error {
	x, err := checkRecords(tx, math.MaxInt)
	if err != nil {
		return err
	}
	y := &s.index
	switch {
	case x.bytes != y.bytes:
		return fmt.Errorf("%w: cost is %d, in memory %d", ErrDamaged, x.bytes, y.bytes)
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
