package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Buckets of schema 1. All integers are big-endian.
var (
	bucketStore = []byte("kdht") // application, schema
	// bucketItems: target → item record (item_record.go), without any time, so
	// that a refresh rewrites the index only.
	bucketItems = []byte("items")
	// bucketExpiry: expires(4) target(20) → cost(4) source(8), for all items but own.
	bucketExpiry = []byte("expiry")
	// bucketOwn: target → updated(4) cost(4), for own items, which do not expire.
	bucketOwn = []byte("own")
	// bucketPeers: expires(4) serial(4) → peer record (peer_record.go). A journal:
	// announces append to it, expiry takes from its head.
	bucketPeers = []byte("peers")
	// bucketState: identity, secrets, nodes, clock; each value ends in its CRC-32C.
	bucketState = []byte("state")

	keyApplication = []byte("application")
	keySchema      = []byte("schema")
	application    = []byte("kdht store")
)

// A migration takes a file from one schema version to the next.
type migration func(*bbolt.Tx) error

// migrations[v] takes schema v to v+1; the current schema is their number. An empty
// file has schema 0. To change the schema, append a function that rewrites what
// schema v left, and never change those before it: Open runs all that are missing
// in one transaction.
var migrations = []migration{
	0: createBuckets,
}

func createBuckets(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketItems, bucketExpiry, bucketOwn, bucketPeers, bucketState} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return nil
}

var (
	errForeign = errors.New("a bbolt file, but not a store")
	errNewer   = errors.New("written by a newer version")
)

// schemaOf tells the schema version, or errForeign.
func schemaOf(tx *bbolt.Tx) (uint32, error) {
	b := tx.Bucket(bucketStore)
	if b == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return 0, errForeign
		}
		return 0, nil
	}
	v := b.Get(keySchema)
	if !bytes.Equal(b.Get(keyApplication), application) || len(v) != 4 {
		return 0, errForeign
	}
	return binary.BigEndian.Uint32(v), nil
}

// migrate brings the file to the current schema.
func migrate(db *bbolt.DB, steps []migration) error {
	var version uint32
	if err := db.View(func(tx *bbolt.Tx) (err error) {
		version, err = schemaOf(tx)
		return err
	}); err != nil {
		return err
	}
	current := uint32(len(steps))
	switch {
	case version > current:
		return fmt.Errorf("%w: schema %d, this version knows %d", errNewer, version, current)
	case version == current:
		return nil
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for ; version < current; version++ {
			if err := steps[version](tx); err != nil {
				return fmt.Errorf("migration from schema %d: %w", version, err)
			}
		}
		b, err := tx.CreateBucketIfNotExists(bucketStore)
		if err != nil {
			return err
		}
		if err := b.Put(keyApplication, application); err != nil {
			return err
		}
		return b.Put(keySchema, binary.BigEndian.AppendUint32(nil, current))
	})
}
