package store

import (
	"io"

	"go.etcd.io/bbolt"
)

// Snapshot is the database as it was at one moment, whatever is written meanwhile.
type Snapshot struct{ tx *bbolt.Tx }

// Snapshot calls fn with the present state, which is gone when fn returns. Meanwhile the file grows by what is written, because
// what the snapshot needs cannot be reused; [Store.Close] waits.
func (s *Store) Snapshot(fn func(*Snapshot) error) error {
	return s.view(func(tx *bbolt.Tx) error { return fn(&Snapshot{tx}) })
}

// Size is how many bytes WriteTo writes.
func (x *Snapshot) Size() int64 { return x.tx.Size() }

// WriteTo writes the snapshot as a file that [Open] opens. Each call writes the same records; pages that hold none may differ, because others
// write to them.
func (x *Snapshot) WriteTo(w io.Writer) (int64, error) { return x.tx.WriteTo(w) }
