package update

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kdht/appliance/update/trial"
	"kdht/store"
)

// Bounds of how often a release is pulled again whose trial has not shown that it is bad.
const (
	// maxSilent is how many trials may end without a word: by a crash, or by the power.
	maxSilent = 2
	// maxBlamed is how many may fail for what the network may be to blame for, but for those after which the version
	// before found the same, and maxOutside how many with those.
	maxBlamed  = 3
	maxOutside = 10
	// firstPause is the wait after the first of these; it doubles with each, up to longestPause.
	firstPause   = time.Hour
	longestPause = 24 * time.Hour
)

// doubt is what the trials of a release have shown that is no proof against it.
type doubt struct {
	Serial  uint64 `json:"serial"`
	Silent  int    `json:"silent,omitempty"`  // trials that ended without a word
	Outside int    `json:"outside,omitempty"` // trials that failed for what the network may be to blame for
	Excused int    `json:"excused,omitempty"` // those of them after which the version before found the same
	// After is when the release may be pulled again.
	After time.Time `json:"after,omitzero"`
}

// enough says that the release is not pulled again.
func (d doubt) enough() bool {
	return d.Silent >= maxSilent || d.Outside-d.Excused >= maxBlamed || d.Outside >= maxOutside
}

// pause is the wait after the last trial.
func (d doubt) pause() time.Duration {
	if d.Outside == 0 {
		return 0
	}
	return min(firstPause<<min(d.Outside-1, 10), longestPause)
}

// judge notes that the trial of a release was not committed, and says what follows from that for the polls of the update
// URL; "" without a serial, which only releases have.
func (s *slots) judge(serial uint64, out trial.Outcome, when time.Time) string {
	if serial == 0 {
		return ""
	}
	if s.Doubt.Serial != serial {
		if s.Doubt.enough() {
			s.Rejected = max(s.Rejected, s.Doubt.Serial)
		}
		s.Doubt = doubt{Serial: serial}
	}
	d := &s.Doubt
	switch {
	case out.Outside():
		d.Outside++
	case out.Reason != "":
		s.Rejected = max(s.Rejected, serial)
		return "it is not tried again by itself"
	default:
		d.Silent++
	}
	switch {
	case d.enough():
		return fmt.Sprintf("after %d such trials it is not tried again by itself", max(d.Silent, d.Outside))
	case out.Outside():
		d.After = when.Add(d.pause())
		return fmt.Sprintf("that may be the network's fault, so it is tried again after %s", d.pause())
	}
	return "that may have been the power, so it is tried once more"
}

// hold says why a release is not pulled at a moment, "" if it may be, and for how long that is so, 0 if for good.
func (s *slots) hold(serial uint64, now time.Time) (why string, wait time.Duration) {
	d := s.Doubt
	switch {
	case serial <= s.Rejected, serial == d.Serial && d.enough():
		return "it did not prove well in a trial", 0
	case serial == d.Serial && now.Before(d.After):
		// A clock that has gone back, as on a box without one, must not make it longer.
		wait = min(d.After.Sub(now), d.pause())
		return "its last trial failed, perhaps for the network's fault", wait
	}
	return "", 0
}

// suspect is a trial that has just ended for what the network may be to blame for.
type suspect struct {
	failed []string // names of checks
	limit  time.Duration
	to     string
	serial uint64
}

// excuse compares this version, to which a trial went back, with what had failed there: when the same fails here for as long, it
// was not the release.
func (m *Manager) excuse(ctx context.Context) {
	m.mu.Lock()
	s := m.suspect
	m.suspect = nil
	m.mu.Unlock()
	if s == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var same []string
		for _, c := range m.Health().Checks {
			if !c.OK && slices.Contains(s.failed, c.Name) {
				same = append(same, c.Name+": "+c.Detail)
			}
		}
		if same == nil {
			m.o.Log.Info("what failed in the trial does not fail here", "checks", s.failed)
			return
		}
		if m.o.Uptime() > s.limit {
			m.excused(s, strings.Join(same, "; "))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// excused notes that the release was not to blame.
func (m *Manager) excused(s *suspect, same string) {
	m.mu.Lock()
	if m.slots.Doubt.Serial == s.serial {
		m.slots.Doubt.Excused++
	}
	err := trial.Write(m.dir, slotsFile, m.slots)
	m.mu.Unlock()
	if err != nil {
		m.o.Log.Warn("the record of the slots is not written", "err", err)
	}
	u := store.Update{
		Time: time.Now(), From: named(m.version(), m.place.Running), To: s.to, By: "the box itself", Result: "excused",
		Reason: "the version before finds the same, so the network was to blame: " + same,
	}
	m.o.Log.Info("update", "result", u.Result, "to", u.To, "reason", u.Reason)
	if err := m.record(u); err != nil {
		m.o.Log.Warn("update not in the history", "err", err)
	}
}
