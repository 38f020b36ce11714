package store

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// A batch is the write transaction that several operations share, with what readers
// must not see before it is durable.
type batch struct {
	s   *Store
	tx  *bbolt.Tx
	now uint32
	// dirty says that there is something to commit.
	dirty bool
	// err is the first failure of the file itself; it fails the whole batch.
	err error
	// items overlays index.items: new times of expiry, 0 for removed.
	items map[Key]uint32
	added int // change of the number of items
	// gone has the keys that lost an item or their last peer.
	gone map[Key]struct{}
	// reclaimed says that what had expired is removed already.
	reclaimed bool

	bucketCache map[string]*bbolt.Bucket
}

func newBatch(s *Store, tx *bbolt.Tx) *batch {
	return &batch{
		s: s, tx: tx, now: s.now(),
		items:       make(map[Key]uint32),
		gone:        make(map[Key]struct{}),
		bucketCache: make(map[string]*bbolt.Bucket, 5),
	}
}

func (b *batch) bucket(name []byte) *bbolt.Bucket {
	if x := b.bucketCache[string(name)]; x != nil {
		return x
	}
	x := b.tx.Bucket(name)
	if bytes.Equal(name, bucketExpiry) || bytes.Equal(name, bucketPeers) {
		x.FillPercent = 0.9 // their keys begin with a time: mostly appended
	}
	b.bucketCache[string(name)] = x
	return x
}

func (b *batch) put(bucket, k, v []byte) {
	b.dirty = true
	b.fail(b.bucket(bucket).Put(k, v))
}

func (b *batch) delete(bucket, k []byte) {
	b.dirty = true
	b.fail(b.bucket(bucket).Delete(k))
}

// fail has the whole batch fail with err, if that is not nil. bbolt refuses keys and
// values only in ways that our keys and values give no cause for in a sound file.
func (b *batch) fail(err error) {
	if err == nil || b.err != nil {
		return
	}
	if b.err = err; !errors.Is(err, ErrDamaged) {
		b.err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
}

// expires tells when a target's item expires, and whether there is one.
func (b *batch) expires(target Key) (uint32, bool) {
	if e, ok := b.items[target]; ok {
		return e, e != 0
	}
	e, ok := b.s.index.items[target]
	return e, ok
}

// change makes a change of the index that readers may see before the commit.
func (b *batch) change(fn func(*index)) {
	b.s.mu.Lock()
	fn(&b.s.index)
	b.s.mu.Unlock()
}

// publish shows the committed batch to the readers, then tells which keys are no
// longer held.
func (b *batch) publish() {
	s := b.s
	s.mu.Lock()
	for k, e := range b.items {
		if e == 0 {
			delete(s.index.items, k)
		} else {
			s.index.items[k] = e
		}
	}
	s.mu.Unlock()
	b.release()
}

func (b *batch) release() {
	fn := b.s.onRelease.Load()
	if fn == nil {
		return
	}
	for k := range b.gone {
		if !b.s.index.has(k) {
			(*fn)(k)
		}
	}
}
