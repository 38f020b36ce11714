package audit_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"kdht/appliance/audit"
	"kdht/store"
)

// entries is an audit log.
type entries []string

func (e *entries) AddAudit(a store.Audit) error {
	s := a.Who + ": " + a.What + ": " + a.Outcome
	if a.Read {
		s += ", and it was read"
	}
	if a.Failed == a.Read {
		s += ", and it is no failure"
	}
	*e = append(*e, s)
	return nil
}

// However often somebody fails, and in however many ways, the log has a bounded number of entries a day, and says what it does not have.
func TestFailuresAreBounded(t *testing.T) {
	var log entries
	f := audit.Failures(&log, slog.New(slog.DiscardHandler))
	now := time.Unix(1_800_000_000, 0)
	note := func(who string) {
		f.Note(who+" password", store.Audit{Time: now, Who: who, What: "password", Outcome: "wrong"})
	}
	for range 1000 {
		note("mallory")
	}
	for n := range 1000 {
		note(fmt.Sprint("stranger ", n))
	}
	if len(log) != 101 || log[0] != "mallory: password: wrong" || log[100] != "stranger 99: failures: more than 100 different within a day: others have no entry" {
		t.Fatalf("%d entries: %q", len(log), log)
	}
	log, now = nil, now.Add(24*time.Hour)
	note("mallory")
	if want := (entries{"mallory: password: wrong (999 times more since the entry before, 901 others have no entry)"}); !slices.Equal(log, want) {
		t.Errorf("a day later: %q, want %q", log, want)
	}
}

// What is read is told apart from changes, and takes no more room than that.
func TestReadsAreBounded(t *testing.T) {
	var log entries
	r := audit.Reads(&log, slog.New(slog.DiscardHandler))
	for n := range 1000 {
		r.Note(fmt.Sprint(n), store.Audit{Time: time.Unix(1_800_000_000, 0), Who: "alice", What: fmt.Sprint("profile ", n), Outcome: "done"})
	}
	if len(log) != 51 || log[0] != "alice: profile 0: done, and it was read" ||
		log[50] != "alice: reading: more than 50 different within a day: others have no entry, and it was read" {
		t.Errorf("%d entries: %q", len(log), log)
	}
}
