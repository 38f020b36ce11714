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
	parallel(store.MaxChanges, func(n int) { add(n) })
	for n := range 7 {
		add(1000 + n)
	}
	must(t, s.AddAudit(store.Audit{Time: at, Who: strings.Repeat("ä", 5000), What: "x", Outcome: "y"}))
	s = reopen(t, s, path, fast(store.Options{}))
	all, err := s.Audit(2 * store.MaxAudit)
	must(t, err)
	if len(all) != store.MaxChanges {
		t.Errorf("%d entries, want %d", len(all), store.MaxChanges)
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

// TestPutsDisplaceNoChanges makes sure that whoever puts, reads, or tries something in vain all day long has no change of the box be forgotten,
// that all are told in their order, and that a restore keeps all.
func TestPutsDisplaceNoChanges(t *testing.T) {
	path := tempPath(t)
	s := open(t, path, fast(store.Options{}))
	at := time.Unix(1_800_000_000, 0).UTC()
	entry := func(seconds int, what string, put bool) store.Audit {
		return store.Audit{Time: at.Add(time.Duration(seconds) * time.Second), Who: "alice@example.org", What: what, Outcome: "done", Put: put}
	}
	must(t, s.AddAudit(entry(0, "restart", false)))
	parallel(store.MaxPuts+20, func(n int) { must(t, s.AddAudit(entry(1+n, "put", true))) })
	failed := entry(2, "fail", false)
	failed.Outcome, failed.Failed = "refused", true
	parallel(store.MaxFailed+20, func(int) { must(t, s.AddAudit(failed)) })
	read := entry(3, "read", false)
	read.Read = true
	parallel(store.MaxRead+20, func(int) { must(t, s.AddAudit(read)) })
	must(t, s.AddAudit(entry(10_000, "last put", true)))
	must(t, s.AddAudit(entry(20_000, "last change", false)))
	must(t, s.AddAudit(entry(30_000, "put after it", true)))
	check := func(s *store.Store, first ...string) {
		t.Helper()
		all, err := s.Audit(store.MaxAudit)
		must(t, err)
		if want := store.MaxPuts + store.MaxRead + store.MaxFailed + len(first) - 1; len(all) != want {
			t.Errorf("%d entries, want %d", len(all), want)
		}
		for i, what := range first {
			if all[i].What != what || all[i].Put != strings.Contains(what, "put") {
				t.Errorf("entry %d is %+v, want %q", i, all[i], what)
			}
		}
		if last := all[len(all)-1]; last.What != "restart" || last.Put {
			t.Errorf("the oldest is %+v", last)
		}
		if two, err := s.Audit(2); err != nil || len(two) != 2 || two[1].What != first[1] {
			t.Errorf("the last two are %+v, %v", two, err)
		}
	}
	check(s, "put after it", "last change", "last put")
	other := tempPath(t)
	o := open(t, other, fast(store.Options{}))
	must(t, o.AddAudit(entry(1, "put elsewhere", true)))
	must(t, o.Close())
	must(t, s.KeepOwn(other, entry(40_000, "restore", false), true))
	check(open(t, other, fast(store.Options{})), "restore", "put after it", "last change", "last put")
}
