package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/store"
)

// The items of one key are told from all others, own ones and those that expire, in the order of their salts.
func TestSignedBy(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), store.Options{Now: c.Now})
	own := mutable(1, "c", 3, "own")
	own.Own = true
	a, b := mutable(1, "a", 1, "one"), mutable(1, "b", 2, "two")
	for _, it := range []*store.Item{own, b, a, mutable(2, "a", 1, "another key"), immutable("a value")} {
		must(t, s.PutItem(it, nil, addr4(1)))
	}
	for _, it := range []*store.Item{own, a, b} {
		it.Updated = c.Now()
		if !it.Own {
			it.Expires = c.Now().Add(2 * time.Hour)
		}
	}
	for _, x := range []struct {
		after time.Duration
		max   int
		want  []*store.Item
	}{{0, 10, []*store.Item{a, b, own}}, {3 * time.Hour, 10, []*store.Item{own}}} {
		c.Advance(x.after)
		got, err := s.SignedBy(a.K, x.max)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Error(diff)
		}
	}
	if got, err := s.SignedBy(a.K, 0); err != nil || len(got) != 0 {
		t.Errorf("%d items, %v", len(got), err)
	}
	must(t, s.Close())
	if _, err := s.SignedBy(a.K, 10); err == nil {
		t.Error("no error of a closed store")
	}
}
