package update

import (
	"fmt"
	"slices"
	"time"

	"kdht/appliance/status"
	"kdht/appliance/update/bootdisk"
	"kdht/store"
)

// Status is the state of updates.
type Status struct {
	Version string        `json:"version"` // what runs
	Serial  uint64        `json:"serial"`  // highest that was committed
	Floor   uint64        `json:"floor"`   // lowest that is taken; 0: any
	Slot    bootdisk.Slot `json:"slot"`
	// Instance is the kind of box, as releases name it.
	Instance string `json:"instance"`
	// Trial says that what runs is not committed; Armed that the next restart begins a trial, of what.
	Trial    bool      `json:"trial"`
	Armed    string    `json:"armed,omitempty"`
	Busy     *Progress `json:"busy,omitempty"`
	Platform string    `json:"platform"`
	// Unavailable is why there are no updates on this machine.
	Unavailable string `json:"unavailable,omitempty"`
	Problem     string `json:"problem,omitempty"`
	Offered     string `json:"offered,omitempty"` // version that the update URL has, newer than what runs
	// Held is why the box does not take that one without being asked to.
	Held       string         `json:"held,omitempty"`
	Checked    *time.Time     `json:"checked,omitempty"`
	CheckError string         `json:"checkError,omitempty"`
	Slots      []SlotStatus   `json:"slots"`
	History    []store.Update `json:"history"` // the oldest first
}

// SlotStatus is what is known of a slot.
type SlotStatus struct {
	Slot    bootdisk.Slot `json:"slot"`
	Version string        `json:"version"` // "" if that is not known
	SHA256  string        `json:"sha256,omitempty"`
}

// Status gives the state of updates.
func (m *Manager) Status() Status {
	history, err := m.o.History.Updates()
	if err != nil {
		m.o.Log.Debug("history of updates not read", "err", err)
	}
	s := m.status()
	if s.History = history; s.History == nil {
		s.History = []store.Update{}
	}
	return s
}

// status is Status without the history.
func (m *Manager) status() Status {
	s := Status{Version: m.version(), Slot: m.place.Running, Instance: instance(), Platform: m.o.Platform.String()}
	if m.noDisk != nil {
		s.Unavailable = m.noDisk.Error()
	}
	held, floor := m.held(time.Now()), m.floor()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Serial, s.Floor, s.Trial, s.Problem = max(m.slots.Serial, m.running.Serial), floor, m.tried != nil, m.problem
	if m.armed != nil {
		s.Armed = named(m.armed.To, m.armed.Target.To)
	}
	if m.busy != "" {
		p := m.progress
		s.Busy = &p
	}
	if m.offered != nil {
		s.Offered = m.offered.Version
		s.Held = held
	}
	if !m.checked.IsZero() {
		at := m.checked
		s.Checked = &at
		if m.checkErr != nil {
			s.CheckError = m.checkErr.Error()
		}
	}
	for _, n := range []bootdisk.Slot{bootdisk.Slot2, bootdisk.Slot3} {
		x := SlotStatus{Slot: n}
		if r := m.slots.Slots[n]; r != nil {
			x.Version, x.SHA256 = r.Version, r.SHA256
		}
		if n == m.place.Running {
			x.Version = s.Version
		}
		s.Slots = append(s.Slots, x)
	}
	return s
}

// summary is the state of updates for the status page's report; nil if there are none on this machine.
func (m *Manager) summary() *status.Update {
	if m.noDisk != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &status.Update{Root: int(m.place.Running), Trial: m.tried != nil}
	for n, r := range m.slots.Slots {
		if n != m.place.Running && r != nil {
			u.Other = r.Version
		}
	}
	if m.armed != nil {
		u.Next = named(m.armed.To, m.armed.Target.To)
	}
	if m.offered != nil {
		u.Offered = m.offered.Version
	}
	return u
}

// shown is how many entries of the history the status page has.
const shown = 5

// Section is the section of the status page.
func (m *Manager) Section() status.Section {
	s := m.Status()
	out := status.Section{Title: "Updates"}
	fact := func(name, format string, args ...any) {
		out.Facts = append(out.Facts, status.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if s.Unavailable != "" {
		fact("Available", "no: %s", s.Unavailable)
		return out
	}
	state := "committed"
	if s.Trial {
		state = "on trial"
	}
	fact("Running", "%s, %s", named(s.Version, s.Slot), state)
	if s.Armed != "" {
		fact("Next restart", "tries %s", s.Armed)
	}
	if s.Busy != nil {
		fact("Under way", "%s, %d MiB", s.Busy.What, s.Busy.Done>>20)
	}
	if s.Offered != "" {
		fact("Offered", "%s", s.Offered)
	}
	if s.Held != "" {
		fact("Not taken", "%s", s.Held)
	}
	if s.Checked != nil && s.CheckError != "" {
		fact("Last check", "%s: %s", s.Checked.UTC().Format(time.DateTime), s.CheckError)
	} else if s.Checked != nil {
		fact("Last check", "%s", s.Checked.UTC().Format(time.DateTime))
	}
	for _, u := range slices.Backward(s.History[max(0, len(s.History)-shown):]) {
		line := fmt.Sprintf("%s, from %s to %s, by %s", u.Result, u.From, u.To, u.By)
		if u.Reason != "" {
			line += ": " + u.Reason
		}
		fact(u.Time.UTC().Format(time.DateTime), "%s", line)
	}
	return out
}

// Problems is what the owner should know.
func (m *Manager) Problems() (lines []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tried != nil {
		lines = append(lines, "This version is on trial: if it does not prove well, the box goes back to the one before by itself.")
	}
	if m.problem != "" {
		lines = append(lines, m.problem)
	}
	return lines
}
