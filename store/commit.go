package store

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// All writing is done by one goroutine. It takes whatever is waiting, carries it out
// in one transaction, and acknowledges all of it after the one commit. A lone writer
// is served at once; while a commit waits for the disk, the next batch gathers.

// maxBatch bounds the requests of a transaction, and so its memory: a put dirties
// about three pages.
const maxBatch = 256

// calm is for how long no transaction must have failed before it is said that all is well again: on a disk that is
// nearly full some take, and others do not.
const calm = time.Minute

// A request is an operation waiting for its commit.
type request struct {
	op   func(*batch) error
	lazy bool
	err  error
	done chan struct{}
}

var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

type queue struct {
	mu      sync.Mutex
	waiting []*request
	eager   int      // of those waiting, how many are not lazy
	suspect *suspect // a read transaction failed
	closed  bool
	wake    chan struct{}
	stopped chan struct{}
}

// submit has op carried out and returns once its outcome is durable. op checks all
// its conditions before its first change, because the other operations of the batch
// are committed though it fails. A lazy operation may be kept waiting for
// Options.AnnounceInterval.
func (s *Store) submit(op func(*batch) error, lazy bool) error {
	r := requests.Get().(*request)
	r.op, r.lazy, r.err = op, lazy, nil
	if !s.queue.put(r) {
		return ErrClosed
	}
	<-r.done
	err := r.err
	r.op = nil
	requests.Put(r)
	return err
}

func (q *queue) put(r *request) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, r)
	if !r.lazy {
		q.eager++
	}
	q.mu.Unlock()
	q.poke()
	return true
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close refuses further requests; false if that was done before.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	q.poke()
	return true
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *queue) look() (n, eager int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.eager, q.closed
}

// take moves up to maxBatch requests, oldest first, into dst.
func (q *queue) take(dst []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxBatch)
	dst = append(dst[:0], q.waiting[:n]...)
	q.waiting = slices.Delete(q.waiting, 0, n)
	for _, r := range dst {
		if !r.lazy {
			q.eager--
		}
	}
	return dst
}

// writer is the goroutine that writes. It ends when the queue is closed and empty.
func (s *Store) writer() {
	defer close(s.queue.stopped)
	debug.SetPanicOnFault(true)
	var (
		batch    []*request
		lazyDone time.Time // last commit that only carried lazy requests
		timer    = time.NewTimer(0)
	)
	for {
		if x := s.queue.takeSuspect(); x != nil {
			s.inspect(x.db, x.err)
		}
		n, eager, closed := s.queue.look()
		if n == 0 {
			if closed {
				return
			}
			<-s.queue.wake
			continue
		}
		if eager == 0 && !closed {
			if wait := s.opt.AnnounceInterval - time.Since(lazyDone); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-s.queue.wake:
				}
				continue
			}
		}
		s.gather(n)
		batch = s.queue.take(batch)
		s.run(batch)
		for i, r := range batch {
			batch[i] = nil
			r.done <- struct{}{}
		}
		if eager == 0 {
			lazyDone = time.Now()
		}
	}
}

// gather lets the writers that the last commit has woken come back with their next
// request, so that they do not just miss this one. It yields while that brings
// anything, and takes microseconds.
func (s *Store) gather(n int) {
	for n < maxBatch {
		runtime.Gosched()
		m, _, _ := s.queue.look()
		if m == n {
			return
		}
		n = m
	}
}

// run carries out a batch and sets the outcome of each request.
func (s *Store) run(batch []*request) {
	db := s.db.Load()
	err := ErrDamaged
	if db != nil || s.renew(db, ErrDamaged) == nil {
		db = s.db.Load()
		err = s.transact(db, batch)
	}
	if err == nil {
		return
	}
	for _, r := range batch {
		r.err = err
	}
	if db == nil {
		return
	}
	if errors.Is(err, ErrDamaged) {
		s.log.Error("store: batch failed", "requests", len(batch), "error", err)
		s.inspect(db, err)
		return
	}
	s.counts.failed(err, s.opt.Now())
	if s.failedLast = s.clock.now(); !s.failing { // said once, not for every put on a full disk
		s.failing = true
		s.log.Error("store: nothing can be stored until this is mended", "file", s.path, "error", err)
	}
	// The outcome on disk is unknown: bbolt may have written its meta page before an
	// fsync failed. The file as it is now is the truth.
	s.reload(db)
}

// transact runs a batch in one transaction. An error means that none of it was
// acknowledged.
func (s *Store) transact(db *bbolt.DB, reqs []*request) (err error) {
	defer guard(&err)
	tx, err := db.Begin(true)
	if err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	committed := false
	defer func() {
		if !committed {
			_ = guarded(tx.Rollback)
		}
	}()
	b := newBatch(s, tx)
	for _, r := range reqs {
		if r.err = r.op(b); b.err != nil {
			return b.err
		}
	}
	if b.dirty {
		b.saveClock(saveClockWith)
		start := time.Now()
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("store: commit: %w", err)
		}
		committed = true
		s.counts.committed(len(reqs), time.Since(start))
		if s.failing && s.clock.now().Sub(s.failedLast) >= calm {
			s.failing = false
			s.log.Info("store: stores again", "file", s.path)
		}
	}
	b.publish()
	return nil
}
