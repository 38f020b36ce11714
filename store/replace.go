package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// ErrNotStore says that a file is a sound database of another program, or of a newer version of this one.
var ErrNotStore = errors.New("store: not a database of this program")

// Contents is what a file holds.
type Contents struct {
	Items, Peers int
	Bytes        int64 // that they are charged for
}

// Verify reads a whole file that no process has open, and tells what it holds. The error is [ErrDamaged] if its structure,
// the checksum of any record, or the index is not right, and [ErrNotStore] if it is something else. The file stays as it is.
func Verify(path string) (c Contents, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return c, err
	}
	v, err := verify(f, fi.Size(), time.Hour)
	switch {
	case err != nil:
		return c, fmt.Errorf("%w: %w", ErrDamaged, err)
	case !v.complete:
		return c, fmt.Errorf("%w: it takes more than an hour to read", ErrDamaged)
	case v.torn:
		return c, fmt.Errorf("%w: one of the two first pages is not whole", ErrDamaged)
	}
	err = guarded(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second, PageSize: pageSize})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			switch version, err := schemaOf(tx); {
			case err != nil:
				return fmt.Errorf("%w: %w", ErrNotStore, err)
			case version == 0 || version > uint32(len(migrations)):
				return fmt.Errorf("%w: schema %d, this version knows 1 to %d", ErrNotStore, version, len(migrations))
			}
			x, err := checkRecords(tx)
			if err != nil {
				return err
			}
			c = Contents{Items: len(x.items), Peers: x.peers, Bytes: x.bytes}
			return nil
		})
	})
	return c, err
}

// KeepAudit gives the file of a database that is to take the place of another one, and that no process has open, the audit
// log of that one instead of its own, with one more entry: who restores an old database does not make unhappen what was done since.
func (s *Store) KeepAudit(path string, entry Audit) error {
	log, err := s.Audit(MaxAudit)
	if err != nil {
		return err
	}
	f, err := openLocked(path, time.Second)
	if err != nil {
		return err
	}
	db, err := openBolt(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer closeBolt(db)
	return guarded(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketAudit, bucketPuts} {
				if tx.Bucket(name) == nil {
					continue
				}
				if err := tx.DeleteBucket(name); err != nil {
					return err
				}
			}
			slices.Reverse(log) // the oldest first
			for _, a := range append(log, entry) {
				v, err := a.encode()
				if err == nil {
					err = appendAudit(tx, a.Put, v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Replace puts a file, which [Verify] has found good, in the place of a database that no process has open, durably. The old
// file stays beside it under the name that is returned; "" if there was none.
func Replace(path, with string) (kept string, err error) {
	f, err := os.Open(with)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return "", err
	}
	kept = path + ".before-restore" // one is enough; each is as large as the database
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// By a second name for the old file, so that there is one at path whenever the power goes.
	if err := os.Link(path, kept); errors.Is(err, fs.ErrNotExist) {
		kept = ""
	} else if err != nil {
		return "", err
	}
	if err := os.Rename(with, path); err != nil {
		return kept, err
	}
	return kept, syncDir(path)
}
