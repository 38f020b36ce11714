package store

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
)

// Times of expiry are whole seconds in 32 bits: they are kept in memory for every
// key. An entry is live while now < expires.
//
// They are seconds of the store's own clock, which began with the wall clock when the
// file was made (so until 2106), but is never set: while the store is open it runs by
// the monotonic clock, and at Open it goes on from where it was saved, by the time
// that the store was closed. A box without a clock of its own starts in 1970 and is
// set by years once it has reached a time server; nothing here lives longer or
// shorter for that.
//
// For how long the store was closed the wall clock tells, if it was right both times.
// If it cannot have been right at Open, no time is taken to have passed, and when it
// is set later, what was there at Open and would have expired meanwhile is removed.

// never is the time of expiry of an own item.
const never = math.MaxUint32

// plausible is the earliest wall clock that may be right: a clock that was not set
// shows 1970 or when the kernel or the hardware was made.
var plausible = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Saved progress of the clock may be as old as this when the power goes: with
// something else that is written, and with nothing.
const (
	saveClockWith  = time.Minute
	saveClockAlone = 5 * time.Minute
)

// progress is a reading of both clocks at one moment.
type progress struct {
	store time.Time // the store's own
	wall  time.Time
}

// clock is the store's own clock.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration

	opened time.Time     // its time at Open
	since  time.Duration // elapsed then
	// before is what was saved last before Open, while it is not known how long ago that was.
	before atomic.Pointer[progress]
	saved  time.Time // its time that is saved; for the writer alone
}

// start sets the clock going from a saved reading, nil if there is none. No entry was
// stored later than last.
func (c *clock) start(saved *progress, last time.Time) {
	wall := c.wall().Round(0)
	c.opened, c.since = wall, c.elapsed()
	switch {
	case saved != nil && saved.wall.After(plausible) && !wall.Before(saved.wall):
		c.opened = saved.store.Add(wall.Sub(saved.wall))
	case saved != nil:
		if c.opened = saved.store; c.opened.Before(last) {
			c.opened = last
		}
		if saved.wall.After(plausible) {
			c.before.Store(saved)
		}
	case wall.Before(plausible) && wall.Before(last):
		c.opened = last // a file from before clocks were saved
	}
}

// now is the store's time.
func (c *clock) now() time.Time { return c.opened.Add(c.elapsed() - c.since) }

// closed tells how long the store was closed before Open, once the wall clock reveals
// it; p is what to forget when that was made use of.
func (c *clock) closed() (d time.Duration, p *progress) {
	wall := c.wall().Round(0)
	if p = c.before.Load(); p == nil || wall.Before(plausible) {
		return 0, nil
	}
	opened := wall.Add(c.since - c.elapsed()) // by the wall clock as it is now
	if d = opened.Sub(p.wall); d < 0 {
		return 0, nil
	}
	return d, p
}

// now is the current second of the store's clock.
func (s *Store) now() uint32 { return clamp(s.clock.now().Unix()) }

// after is the first whole second that is at least ttl from now.
func (s *Store) after(ttl time.Duration) uint32 {
	t := s.clock.now().Add(ttl)
	sec := t.Unix()
	if t.Nanosecond() > 0 {
		sec++
	}
	return clamp(sec)
}

func clamp(sec int64) uint32 { return uint32(min(max(sec, 0), never-1)) }

// timeOf is a second of the store's clock on the wall clock of now.
func (s *Store) timeOf(sec uint32) time.Time {
	return s.opt.Now().Round(0).Add(time.Unix(int64(sec), 0).Sub(s.clock.now()))
}

// saveClock stores the progress of the clock if what is stored is older than a limit.
func (b *batch) saveClock(limit time.Duration) {
	p := progress{b.s.clock.now(), b.s.opt.Now()}
	if p.store.Sub(b.s.clock.saved) < limit {
		return
	}
	b.put(bucketState, keyClock, seal(p.encode()))
	b.s.clock.saved = p.store
}

func (p progress) encode() []byte {
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 16+crcSize), uint64(p.store.UnixNano()))
	return binary.BigEndian.AppendUint64(v, uint64(p.wall.UnixNano()))
}

func parseProgress(v []byte) *progress {
	if len(v) != 16 {
		return nil
	}
	nano := func(b []byte) time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(b))) }
	return &progress{nano(v), nano(v[8:])}
}
