package store_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/store"
)

// TestUpdates keeps the log over a restart, and no more of it than is allowed.
func TestUpdates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.Updates(); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	var want []store.Update
	for i := range store.MaxUpdates + 7 {
		u := store.Update{Time: time.Unix(int64(i), 0).UTC(), From: fmt.Sprint("v", i), To: fmt.Sprint("v", i+1), By: "gok", Result: "committed"}
		want = append(want, u)
		if err := s.AddUpdate(u); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.Updates()
	if diff := cmp.Diff(want[7:], all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
