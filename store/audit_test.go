package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kdht/store"
)

// TestAudit makes sure that the log survives, is bounded, and has the newest entries first.
func TestAudit(t *testing.T) {
	path := tempPath(t)
	s := open(t, path, fast(store.Options{}))
	if all, err := s.Audit(10); err != nil || len(all) != 0 {
		t.Fatalf("a new store has %v, %v", all, err)
	}
	at := time.Unix(1_800_000_000, 0).UTC()
	add := func(n int) {
		must(t, s.AddAudit(store.Audit{Time: at.Add(time.Duration(n) * time.Second), Who: "alice@example.org", What: fmt.Sprint("change ", n), Outcome: "done"}))
	}
	parallel(store.MaxAudit, func(n int) { add(n) })
	for n := range 7 {
		add(1000 + n)
	}
	must(t, s.AddAudit(store.Audit{Time: at, Who: strings.Repeat("ä", 5000), What: "x", Outcome: "y"}))
	s = reopen(t, s, path, fast(store.Options{}))
	all, err := s.Audit(2 * store.MaxAudit)
	must(t, err)
	if len(all) != store.MaxAudit {
		t.Errorf("%d entries, want %d", len(all), store.MaxAudit)
	}
	if n := len(all[0].Who); n > 1100 || !strings.HasSuffix(all[0].Who, "ä…") {
		t.Errorf("a text of %d bytes that ends in %q", n, all[0].Who[n-8:])
	}
	for i := range 7 {
		if want := fmt.Sprint("change ", 1006-i); all[1+i].What != want || !all[1+i].Time.Equal(at.Add(time.Duration(1006-i)*time.Second)) {
			t.Errorf("entry %d is %+v, want %q", 1+i, all[1+i], want)
		}
	}
	if few, err := s.Audit(3); err != nil || len(few) != 3 {
		t.Errorf("3 entries asked for: %d, %v", len(few), err)
	}
}
