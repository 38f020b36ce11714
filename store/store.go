package store

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Key is a BEP 44 target or an infohash.
type Key = [20]byte

// Store is an open store. Its methods may be called from any goroutine.
type Store struct {
	path string
	opt  Options
	log  *slog.Logger

	// db changes when the file proves damaged and a new one is begun; nil when there
	// is none: closed, or no new one could be begun.
	db        atomic.Pointer[bbolt.DB]
	onRelease atomic.Pointer[func(Key)]
	queue     queue
	counts    counters
	clock     clock
	oldest    atomic.Pointer[oldest]

	failing    bool      // it was said that nothing can be stored; this and the next for the writer alone
	failedLast time.Time // by the store's clock

	// mu guards the rest. Only the writer goroutine changes it, so that one reads it
	// without lock.
	mu              sync.RWMutex
	index           index
	aside, asideWhy string
	checked         bool // the whole file, when it was opened
}

func newStore(path string, o Options) *Store {
	s := &Store{path: path, opt: o, log: o.Logger, index: newIndex()}
	s.clock.wall, s.clock.elapsed = o.Now, o.Elapsed
	s.queue.wake = make(chan struct{}, 1)
	s.queue.stopped = make(chan struct{})
	return s
}

// Close carries out what was asked for until now, then closes the file. It waits for
// readers.
func (s *Store) Close() error {
	_ = s.submit(func(b *batch) error { // without it, it goes on from where it was saved last
		b.saveClock(0)
		return nil
	}, false)
	if !s.queue.close() {
		return ErrClosed
	}
	<-s.queue.stopped
	db := s.db.Swap(nil)
	if db == nil {
		return nil
	}
	return guarded(db.Close)
}

// SetAside returns where the last unusable file was kept since Open began, and what
// was wrong with it; both empty if there was none.
func (s *Store) SetAside() (path, reason string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.aside, s.asideWhy
}

// OnRelease sets the function to call when a key no longer has an item nor peers,
// once that is durable, and when it has lost what a failed write showed. It is called
// by the writer, before any later write returns: so a caller that marks a key as held
// after PutItem or Announce returned, and as not held in fn, ends with the truth. fn
// must not write to the store.
func (s *Store) OnRelease(fn func(key Key)) { s.onRelease.Store(&fn) }

// view runs fn in a read transaction. Values in it are gone when fn returns.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	for {
		db := s.db.Load()
		if db == nil {
			return s.unusable()
		}
		err := guarded(func() error {
			tx, err := db.Begin(false)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			return fn(tx)
		})
		switch {
		case errors.Is(err, ErrDamaged):
			s.suspect(db, err)
			return err
		case errors.Is(err, berrors.ErrDatabaseNotOpen) && s.db.Load() != db:
			continue
		}
		return err
	}
}

// unusable is the error when there is no file.
func (s *Store) unusable() error {
	if s.queue.isClosed() {
		return ErrClosed
	}
	return ErrDamaged
}
