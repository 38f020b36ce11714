package store

import (
	"os"
	"sync/atomic"
	"time"
)

// Stats is a store's state at one moment, what has expired but is not swept included.
type Stats struct {
	Items      int   // items, own ones included
	OwnItems   int   // items to republish
	Infohashes int   // infohashes with peers
	Peers      int   // peers of all infohashes
	Bytes      int64 // cost of all items and peers, as MaxBytes bounds it
	Sources    int   // source addresses that are charged for something
	FileBytes  int64 // size of the file
	// OldestItem is how long ago the item was put that was not put again for longest, own ones aside; 0 without items. It is
	// looked for once a minute.
	OldestItem time.Duration
	// Checked says that the structure of the whole file was found sound when it was opened: of a large one on a slow disk
	// only a part is looked at, and the rest when something seems wrong.
	Checked bool

	Writes  int64 // operations committed since Open
	Commits int64 // transactions that took
	Expired int64 // items and peers removed since Open
	// CommitTime is the time spent in commits since Open.
	CommitTime time.Duration
	// Failure is why nothing can be stored, as on a full disk, and FailedSince when that began; nil and the zero
	// Time if the last transaction took.
	Failure     error
	FailedSince time.Time
}

type counters struct {
	writes, commits, expired, nanoseconds atomic.Int64

	failure atomic.Pointer[failure]
}

// failure is what keeps transactions from taking.
type failure struct {
	err   error
	since time.Time
}

// committed counts a transaction that took.
func (c *counters) committed(writes int, d time.Duration) {
	c.writes.Add(int64(writes))
	c.commits.Add(1)
	c.nanoseconds.Add(int64(d))
	c.failure.Store(nil)
}

// failed notes a transaction that did not take, if it is the first.
func (c *counters) failed(err error, now time.Time) {
	c.failure.CompareAndSwap(nil, &failure{err, now})
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	x := &s.index
	st := Stats{
		Items: len(x.items), OwnItems: len(x.own),
		Infohashes: len(x.swarms), Peers: x.peers,
		Bytes: x.bytes, Sources: len(x.sources), Checked: s.checked,
	}
	s.mu.RUnlock()
	st.OldestItem = s.oldestItem()
	if fi, err := os.Stat(s.path); err == nil {
		st.FileBytes = fi.Size()
	}
	st.Writes, st.Commits = s.counts.writes.Load(), s.counts.commits.Load()
	st.Expired = s.counts.expired.Load()
	st.CommitTime = time.Duration(s.counts.nanoseconds.Load())
	if f := s.counts.failure.Load(); f != nil {
		st.Failure, st.FailedSince = f.err, f.since
	}
	return st
}

// oldest is the answer of oldestItem, and until when it is good enough.
type oldest struct {
	expires uint32
	until   time.Time
}

// oldestItem is how old the item is that will expire first.
func (s *Store) oldestItem() time.Duration {
	now := s.clock.now()
	o := s.oldest.Load()
	if o == nil || now.After(o.until) {
		o = &oldest{never, now.Add(time.Minute)}
		s.mu.RLock()
		for _, expires := range s.index.items {
			o.expires = min(o.expires, expires)
		}
		s.mu.RUnlock()
		s.oldest.Store(o)
	}
	if o.expires == never {
		return 0
	}
	return max(now.Sub(time.Unix(int64(o.expires), 0).Add(-s.opt.ItemTTL)), 0)
}
