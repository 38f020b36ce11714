package store_test

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"kdht/store"
)

// A new file is of schema 0, and the package's first migration takes it to schema 1:
// every other test goes through it. This one appends a second.
func TestMigration(t *testing.T) {
	path := tempPath(t)
	s := open(t, path, store.Options{})
	it := immutable("kept")
	must(t, s.PutItem(it, nil, addr4(1)))
	closeChecked(t, s)

	calls := 0
	next := store.WithMigration(store.Options{}, func(tx *bbolt.Tx) error {
		calls++
		_, err := tx.CreateBucket([]byte("new in schema 2"))
		return err
	})
	for range 2 {
		s = open(t, path, next)
		if to, why := s.SetAside(); to != "" {
			t.Fatalf("set aside: %s", why)
		}
		if _, err := s.Item(it.Target); err != nil {
			t.Errorf("item after migration: %v", err)
		}
		closeChecked(t, s)
	}
	if calls != 1 {
		t.Errorf("migration ran %d times", calls)
	}

	// A file that was migrated and went back to an older version is kept, not used.
	s = open(t, path, store.Options{})
	if to, why := s.SetAside(); !strings.HasPrefix(to, path+".newer-") || !strings.Contains(why, "schema 2") {
		t.Errorf("set aside to %q: %s", to, why)
	}
	if s.Holds(it.Target) {
		t.Error("item of a newer schema")
	}
}

func TestFailedMigration(t *testing.T) {
	for name, fail := range map[string]func(*bbolt.Tx) error{
		"error": func(*bbolt.Tx) error { return errors.New("what is this") },
		"panic": func(*bbolt.Tx) error { panic("what is this") },
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			closeChecked(t, open(t, path, store.Options{}))
			first := true
			s := open(t, path, store.WithMigration(store.Options{}, func(tx *bbolt.Tx) error {
				if first { // the new file is fine
					first = false
					return fail(tx)
				}
				return nil
			}))
			to, why := s.SetAside()
			if !strings.HasPrefix(to, path+".damaged-") || !strings.Contains(why, "what is this") {
				t.Errorf("set aside to %q: %s", to, why)
			}
			must(t, s.PutItem(immutable("works"), nil, addr4(1)))
		})
	}
}
