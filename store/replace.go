package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// ErrNotStore says that a file is a sound database of another program, or of a newer version of this one.
var ErrNotStore = errors.New("store: not a database of this program")

// BeforeRestore is what is put behind the name of a database that another one took the place of.
const BeforeRestore = ".before-restore"

// ErrTooMany says that a file holds more than there is memory to look through.
var ErrTooMany = errors.New("store: too much in the file")

// Contents is what a file holds.
type Contents struct {
	Items, Peers int
	Bytes        int64 // that they are charged for
}

// Capacity is how many items and peers the store can have at most; 0 if there is no bound. Nothing costs less than a peer.
func (s *Store) Capacity() int { return int(max(0, s.opt.MaxBytes/peerCost)) }

// Verify reads a whole file that no process has open, and tells what it holds. The error is [ErrDamaged] if its structure,
// the checksum of any record, or the index is not right, [ErrNotStore] if it is something else, and [ErrTooMany] if there are more
// items and peers than most, for each of which it takes some 60 bytes of memory; 0 is any number. The file stays as it is.
func Verify(path string, most int) (c Contents, err error) {
	if most == 0 {
		most = math.MaxInt
	}
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
			x, err := checkRecords(tx, most)
			if err != nil {
				return err
			}
			c = Contents{Items: len(x.items), Peers: x.peers, Bytes: x.bytes}
			return nil
		})
	})
	return c, err
}

// KeepOwn gives the file of a database that is to take the place of this one, and that no process has open, the audit log and the log of
// updates of this one instead of its own, with one more entry in the former: who restores an old database does not make unhappen what was
// done since, and the versions that ran are those of this machine. With identity it has also this node's identity, and what its write tokens
// are made with, so that the backup of another node makes no second one of that.
func (s *Store) KeepOwn(path string, entry Audit, identity bool) error {
	log, err := s.Audit(MaxAudit)
	if err != nil {
		return err
	}
	var updates []byte // sealed; nil if there is none, or it is damaged
	err = s.view(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketState).Get(keyUpdates)
		if _, ok := unseal(v); ok {
			updates = bytes.Clone(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.RLock()
	own := s.index.state
	s.mu.RUnlock()
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
			for _, name := range auditBuckets {
				if tx.Bucket(name) == nil {
					continue
				}
				if err := tx.DeleteBucket(name); err != nil {
					return err
				}
			}
			if err := putOrDelete(tx.Bucket(bucketState), keyUpdates, updates); err != nil {
				return err
			}
			if identity {
				if err := keepState(tx.Bucket(bucketState), own); err != nil {
					return err
				}
			}
			slices.Reverse(log) // the oldest first
			for _, a := range append(log, entry) {
				v, err := a.encode()
				if err == nil {
					err = appendAudit(tx, a, v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// keepState makes a file have the state of this node; what is not known of it, the file does not have either.
func keepState(b *bbolt.Bucket, own state) error {
	put := func(key, v []byte) error {
		if v != nil {
			v = seal(v)
		}
		return putOrDelete(b, key, v)
	}
	var id4, id6, secrets []byte
	if own.identity4 != nil {
		id4 = own.identity4.encode()
	}
	if own.identity6 != nil {
		id6 = own.identity6.encode()
	}
	if own.secrets != nil {
		secrets = own.secrets.encode()
	}
	return errors.Join(put(keyIdentity4, id4), put(keyIdentity6, id6), put(keySecrets, secrets))
}

// putOrDelete makes a key have a value, or if that is nil, none.
func putOrDelete(b *bbolt.Bucket, key, v []byte) error {
	if v == nil {
		return b.Delete(key)
	}
	return b.Put(key, v)
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
	kept = path + BeforeRestore // one is enough; each is as large as the database
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
