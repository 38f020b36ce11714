package store_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"kdht/store"
)

// twoClocks are a wall clock that can be set, and one that only runs.
type twoClocks struct {
	clock
	running time.Duration
}

func (c *twoClocks) Advance(d time.Duration) {
	c.clock.Advance(d)
	c.mu.Lock()
	c.running += d
	c.mu.Unlock()
}

func (c *twoClocks) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// set sets the wall clock.
func (c *twoClocks) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// boot starts a machine whose wall clock shows t.
func (c *twoClocks) boot(t time.Time) {
	c.set(t)
	c.mu.Lock()
	c.running = 5 * time.Second
	c.mu.Unlock()
}

var (
	unset = time.Unix(3, 0)                                 // what a machine without a clock of its own begins with
	today = time.Date(2026, 11, 25, 21, 45, 0, 0, time.UTC) // what time servers say
)

// machine is a store on a machine with these clocks.
type machine struct {
	t    *testing.T
	c    twoClocks
	path string
	s    *store.Store
}

func newMachine(t *testing.T, wall time.Time) *machine {
	m := &machine{t: t, path: tempPath(t)}
	m.c.boot(wall)
	m.s = open(t, m.path, m.options())
	return m
}

func (m *machine) options() store.Options {
	return fast(store.Options{Now: m.c.Now, Elapsed: m.c.Elapsed})
}

// reboot closes the store and opens it again when the wall clock shows t.
func (m *machine) reboot(t time.Time) {
	m.t.Helper()
	closeChecked(m.t, m.s)
	m.c.boot(t)
	m.s = open(m.t, m.path, m.options())
}

// crash is a reboot after a loss of power: nothing was saved at the end. A copy of the file is what the disk has.
func (m *machine) crash(t time.Time) {
	m.t.Helper()
	file, err := os.ReadFile(m.path)
	must(m.t, err)
	copied := tempPath(m.t)
	must(m.t, os.WriteFile(copied, file, 0o600))
	closeChecked(m.t, m.s)
	m.path = copied
	m.c.boot(t)
	m.s = open(m.t, m.path, m.options())
}

func (m *machine) put(it *store.Item) { m.t.Helper(); must(m.t, m.s.PutItem(it, nil, addr4(1))) }

func (m *machine) announce() {
	m.t.Helper()
	must(m.t, m.s.Announce(key(1), peerAddr(1), false, addr4(1)))
}

// holds wants an item to be held or not, before and after a sweep.
func (m *machine) holds(it *store.Item, want bool) {
	m.t.Helper()
	m.sweep()
	_, err := m.s.Item(it.Target)
	if held := err == nil; held != want || held != m.s.Holds(it.Target) || err != nil && !errors.Is(err, store.ErrNotFound) {
		m.t.Errorf("the item is held: %v, %v; want %v", held, err, want)
	}
}

func (m *machine) sweep() {
	m.t.Helper()
	_, err := m.s.Expire(m.c.Now())
	must(m.t, err)
}

// TestClockSet sets the wall clock by years, in both directions, while the store is open.
func TestClockSet(t *testing.T) {
	for name, step := range map[string]struct{ from, to time.Time }{
		"a time server is reached":  {unset, today},
		"it was wrong by ten years": {today.AddDate(10, 0, 0), today},
		"it is set to nonsense":     {today, unset},
		"by an hour":                {today, today.Add(time.Hour)},
		"back by an hour":           {today, today.Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, step.from)
			early, late := immutable("early"), immutable("late")
			own := mutable(1, "", 1, "own")
			own.Own = true
			m.put(early)
			m.put(own)
			m.announce()
			m.c.Advance(10 * time.Minute)
			m.c.set(step.to)
			m.holds(early, true)
			m.put(late)
			it, err := m.s.Item(early.Target)
			must(t, err)
			if d := it.Expires.Sub(step.to); d != 110*time.Minute {
				t.Errorf("it expires in %v, want 1h50m", d)
			}
			if it, err = m.s.Item(own.Target); err != nil || step.to.Sub(it.Updated) != 10*time.Minute {
				t.Errorf("own item put %v ago, %v; want 10 min", step.to.Sub(it.Updated), err)
			}
			m.c.Advance(20 * time.Minute)
			m.sweep()
			if len(peers(t, m.s, key(1), false, 0, false)) != 0 {
				t.Error("the peer did not expire after 30 min")
			}
			m.c.Advance(90*time.Minute - time.Second)
			m.holds(early, true)
			m.c.Advance(time.Second)
			m.holds(early, false)
			m.c.Advance(10*time.Minute - time.Second)
			m.holds(late, true)
			m.c.Advance(time.Second)
			m.holds(late, false)
		})
	}
}

// TestClockAcrossBoots starts a machine again and again.
func TestClockAcrossBoots(t *testing.T) {
	it, later := immutable("x"), immutable("later")
	t.Run("a right clock counts the time in between", func(t *testing.T) {
		m := newMachine(t, today)
		m.put(it)
		m.c.Advance(30 * time.Minute)
		m.reboot(today.Add(80 * time.Minute))
		m.holds(it, true)
		m.c.Advance(40 * time.Minute)
		m.holds(it, false)
	})
	t.Run("without a right clock, until there is one", func(t *testing.T) {
		m := newMachine(t, today)
		m.put(it)
		m.announce()
		m.c.Advance(10 * time.Minute)
		m.reboot(unset)
		m.holds(it, true)
		m.put(later)
		m.c.Advance(time.Minute)
		m.c.set(today.Add(5 * time.Hour)) // the item expired meanwhile
		m.holds(it, false)
		m.holds(later, true)
		if len(peers(t, m.s, key(1), false, 0, false)) != 0 {
			t.Error("the peer outlived the time in between")
		}
		m.c.Advance(119*time.Minute - time.Second)
		m.holds(later, true)
		m.c.Advance(time.Second)
		m.holds(later, false)
	})
	t.Run("it was off for a moment only", func(t *testing.T) {
		m := newMachine(t, today)
		m.put(it)
		m.announce()
		m.reboot(unset)
		m.c.Advance(time.Minute)
		m.c.set(today.Add(3 * time.Minute))
		m.holds(it, true)
		if len(peers(t, m.s, key(1), false, 0, false)) != 1 {
			t.Error("the peer expired early")
		}
	})
	t.Run("never a right clock", func(t *testing.T) {
		m := newMachine(t, unset)
		m.put(it)
		for range 11 { // ten minutes of power a day
			m.c.Advance(10 * time.Minute)
			m.holds(it, true)
			m.reboot(unset)
		}
		m.c.Advance(10 * time.Minute)
		m.holds(it, false)
	})
	t.Run("a right clock that came later than the item", func(t *testing.T) {
		m := newMachine(t, unset)
		m.put(it)
		m.c.Advance(time.Minute)
		m.c.set(today)
		m.c.Advance(time.Minute)
		m.reboot(unset)
		m.holds(it, true)
		m.c.Advance(time.Minute)
		m.c.set(today.Add(time.Hour))
		m.holds(it, true)
		m.reboot(today.Add(3 * time.Hour))
		m.holds(it, false)
	})
	t.Run("power lost", func(t *testing.T) {
		m := newMachine(t, unset)
		m.put(it)
		for range 24 { // each time, five minutes at least are saved
			for range 9 {
				m.c.Advance(time.Minute)
				m.sweep()
			}
			m.crash(unset)
		}
		m.holds(it, false)
	})
	t.Run("power lost, and a right clock", func(t *testing.T) {
		m := newMachine(t, today)
		m.put(it)
		m.c.Advance(14 * time.Minute)
		m.crash(today.Add(2*time.Hour - time.Second))
		m.holds(it, true)
		m.c.Advance(time.Second)
		m.holds(it, false)
	})
}
