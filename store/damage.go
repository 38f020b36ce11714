package store

import (
	"errors"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// A suspect is a database in which a transaction failed, or lacked what must be there.
type suspect struct {
	db  *bbolt.DB
	err error
}

// suspect has the writer inspect the file before it writes again.
func (s *Store) suspect(db *bbolt.DB, err error) {
	q := &s.queue
	q.mu.Lock()
	q.suspect = &suspect{db, err}
	q.mu.Unlock()
	q.poke()
}

func (q *queue) takeSuspect() *suspect {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.suspect
	q.suspect = nil
	return x
}

// inspect decides what ErrDamaged from a transaction means. If the file is damaged, a
// new one is begun; if it is sound, a single record was lost, or the failure is a
// programming error: neither may cost more data.
func (s *Store) inspect(db *bbolt.DB, cause error) {
	if s.db.Load() != db {
		return // a new file was begun meanwhile
	}
	if err := verifyFile(s.path); err != nil {
		_ = s.renew(db, err)
		return
	}
	var stack []byte
	if f := (*fault)(nil); errors.As(cause, &f) {
		stack = f.stack
	}
	s.log.Error("store: the file seemed damaged and is sound", "error", cause, "stack", string(stack))
	s.reload(db)
}

// verifyFile checks a file for as long as it takes.
func verifyFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = verify(f, fi.Size(), time.Hour)
	return err
}

// renew sets the file aside while the store runs, and begins a new one with the
// identity and secrets, which are in memory. If even that fails, the next write
// tries again.
func (s *Store) renew(db *bbolt.DB, cause error) error {
	old := s.index
	s.db.Store(nil)
	if db != nil {
		closeBolt(db)
		if err := s.putAside("damaged", cause); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("store: cannot set the damaged file aside", "error", err)
			return err
		}
	}
	s.mu.Lock()
	s.index = newIndex()
	s.mu.Unlock()
	next, err := s.openFile()
	if err == nil {
		err = s.transact(next, []*request{{op: func(b *batch) error {
			b.putState(old.state)
			return nil
		}}})
	}
	if err != nil {
		s.log.Error("store: cannot begin a new file", "error", err)
		return err
	}
	s.db.Store(next)
	s.releaseLost(old)
	return nil
}

// releaseLost reports every key as released that was in an index, and is in that of now no more. What was announced counted before it was
// committed, so a commit that fails loses it as a file that is lost does.
func (s *Store) releaseLost(old index) {
	fn := s.onRelease.Load()
	if fn == nil {
		return
	}
	for k := range old.items {
		if !s.index.has(k) {
			(*fn)(k)
		}
	}
	for k := range old.swarms {
		if _, ok := old.items[k]; !ok && !s.index.has(k) {
			(*fn)(k)
		}
	}
}

// reload has the index say what is in the file, and begins a new file if there is no sense in that.
func (s *Store) reload(db *bbolt.DB) {
	old := s.index
	if err := guarded(func() error { return s.load(db) }); err != nil {
		_ = s.renew(db, err)
		return
	}
	s.releaseLost(old)
}
