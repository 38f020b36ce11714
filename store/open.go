package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// Open opens the store at path, creating it and its directory if need be. A file
// that is damaged, foreign, or of a newer schema is renamed to path.damaged-TIME,
// path.foreign-TIME or path.newer-TIME, reported by SetAside and the logger, and a
// new one is begun.
//
// The error is ErrLocked if another process has the file open; otherwise it tells
// that the place is unusable: no permission, no space, a failing disk.
func Open(path string, o Options) (*Store, error) {
	s := newStore(path, o.withDefaults())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db, err := s.openFile()
	switch {
	case errors.Is(err, ErrLocked):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	}
	s.db.Store(db)
	go s.writer()
	return s, nil
}

// openFile opens the file at s.path and loads the index, with a new file if the
// present one is unusable.
func (s *Store) openFile() (*bbolt.DB, error) {
	if fi, err := os.Stat(s.path); err == nil && !fi.Mode().IsRegular() {
		if err := s.putAside("foreign", errors.New("not a regular file")); err != nil {
			return nil, err
		}
	}
	f, err := openLocked(s.path, s.opt.LockTimeout)
	if err != nil {
		return nil, err
	}
	db, why, err := s.tryFile(f)
	if err == nil {
		return db, nil
	}
	if why == "" {
		return nil, err
	}
	if err := s.putAside(why, err); err != nil {
		return nil, err
	}
	if f, err = openLocked(s.path, s.opt.LockTimeout); err != nil {
		return nil, err
	}
	if db, _, err = s.tryFile(f); err != nil {
		return nil, fmt.Errorf("begin a new file, the %s one being kept as %s: %w", why, s.aside, err)
	}
	return db, nil
}

// tryFile opens a locked file. On an error the file is closed, and why tells what is
// wrong with it, "" if it is not the file.
func (s *Store) tryFile(f *os.File) (_ *bbolt.DB, why string, err error) {
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, "", err
	}
	var found verdict
	if fi.Size() > 0 {
		if found, err = verify(f, fi.Size(), s.opt.CheckTimeout); err != nil {
			f.Close()
			return nil, "damaged", err
		}
		if !found.complete {
			s.log.Warn("store: integrity check not finished in time", "file", s.path, "limit", s.opt.CheckTimeout)
		}
	}
	db, err := openBolt(f)
	if err != nil {
		f.Close()
		if fi.Size() == 0 {
			return nil, "", err
		}
		return nil, "damaged", err
	}
	db.AllocSize = allocSize
	err = s.loadFile(db)
	if err == nil && found.torn {
		err = mend(db)
	}
	if err == nil {
		if fi.Size() == 0 {
			err = syncDir(s.path)
		}
		if err == nil {
			s.mu.Lock()
			s.checked = fi.Size() == 0 || found.complete
			s.mu.Unlock()
			return db, "", nil
		}
	}
	closeBolt(db)
	switch {
	case errors.Is(err, errForeign):
		return nil, "foreign", err
	case errors.Is(err, errNewer):
		return nil, "newer", err
	case fi.Size() > 0 && !errors.As(err, new(syscall.Errno)):
		return nil, "damaged", err
	}
	return nil, "", err
}

func (s *Store) loadFile(db *bbolt.DB) error {
	return guarded(func() error {
		if err := migrate(db, s.opt.migrations); err != nil {
			return err
		}
		return s.load(db)
	})
}

// mend writes both meta pages, by two commits.
func mend(db *bbolt.DB) error {
	return guarded(func() error {
		nothing := func(*bbolt.Tx) error { return nil }
		if err := db.Update(nothing); err != nil {
			return err
		}
		return db.Update(nothing)
	})
}

// putAside renames the file at s.path and reports it.
func (s *Store) putAside(why string, cause error) error {
	to, err := rename(s.path, why, s.opt.Now())
	if err != nil {
		return fmt.Errorf("set aside a %s file (%w): %w", why, cause, err)
	}
	s.mu.Lock()
	s.aside, s.asideWhy = to, cause.Error()
	s.mu.Unlock()
	s.log.Error("store: unusable file set aside, a new one begun", "file", s.path, "kept", to, "state", why, "reason", cause)
	return nil
}

// closeTimeout is far longer than readers take for what they do in a transaction.
const closeTimeout = 250 * time.Millisecond

// closeBolt closes a database that may be damaged. Transactions that died in a panic
// can leave bbolt's locks held, so Close may never return; then the mapping is left
// to the process's end.
func closeBolt(db *bbolt.DB) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = guarded(db.Close)
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
}
