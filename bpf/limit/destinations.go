package limit

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
)

// Pace says how much may be sent to one destination, an address: Rate per second in the long run, Burst at once. Zero: any
// amount.
type Pace struct {
	Rate  float64
	Burst int
}

// Params returns the numbers that the kernel half wants: between two datagrams to one destination, and so far ahead of that
// a destination may be, both in ticks of 1,024 ns; 0: no limit.
func (p Pace) Params() (interval, window uint64) {
	if p.Rate <= 0 {
		return 0, 0
	}
	interval = uint64(max(1, min(float64(time.Second)/p.Rate/(1<<tickShift), maxWindow)))
	return interval, min(interval*uint64(max(p.Burst, 1)), maxWindow)
}

// MaxAhead is how far in advance [Destinations.Reserve] takes tokens at most.
const MaxAhead = 4 * time.Second

// paceAhead is as much and a little more, in ticks, as in xdp/pace.h.
const paceAhead = 1 << 22

// Destinations are how much was sent to each destination of late: what both halves of the node send counts together, if the
// table is the kernel half's (xdp/pace.h). A destination never loses its place while its bucket is not full: one for
// which there is none has no tokens. Safe for concurrent use, also by the kernel half at the same time.
type Destinations struct {
	table            *Table
	seed             uint64
	interval, window uint64
}

// NewDestinations returns the destinations in a table, under the key of their hash.
func NewDestinations(p Pace, seed uint64, table *Table) *Destinations {
	d := &Destinations{table: table, seed: seed}
	d.interval, d.window = p.Params()
	return d
}

// hashOfDestination returns the hash of a whole address.
func hashOfDestination(seed uint64, a netip.Addr) Hash {
	b := a.As16()
	high, low := binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])
	h := hashWords(seed, low, high)
	return Hash((h ^ h>>32) * 0x9e3779b97f4a7c15)
}

// find returns the place of a destination, what is there, and how far its time is ahead of now; nil if there is none.
func (d *Destinations) find(h Hash, now uint64) (place *uint64, old, ahead uint64) {
	set := &d.table[h.Set()]
	for i := range Ways {
		way := &set[(h.way()+i)%Ways]
		word := atomic.LoadUint64(way)
		if !h.differs(word) {
			return way, word, aheadOf(word, now, d.window+paceAhead)
		}
		if place == nil && aheadOf(word, now, d.window+paceAhead) == 0 {
			place, old = way, word
		}
	}
	return place, old, 0
}

// Reserve takes a token of a destination, and returns how long to wait before it is used. With ok false none was taken: the
// wait would be longer than patience, or than [MaxAhead], or there is no place for the destination.
func (d *Destinations) Reserve(a netip.Addr, t Time, patience time.Duration) (wait time.Duration, ok bool) {
	defer runtime.KeepAlive(d) // the memory of its table may go with it
	if d.interval == 0 {
		return 0, true
	}
	h, now := hashOfDestination(d.seed, a), t.ticks()
	for {
		place, old, ahead := d.find(h, now)
		if place == nil {
			return 0, false
		}
		ahead += d.interval
		if ahead > d.window {
			wait = time.Duration(ahead-d.window) << tickShift
		}
		if wait > min(patience, MaxAhead) {
			return 0, false
		}
		if atomic.CompareAndSwapUint64(place, old, h.tag()|(now+ahead)&timeMask) {
			return wait, true
		}
		wait = 0
	}
}

// Wait returns how long one would have to wait for a token of a destination; more than [MaxAhead] if there is no place for it.
func (d *Destinations) Wait(a netip.Addr, t Time) time.Duration {
	defer runtime.KeepAlive(d)
	if d.interval == 0 {
		return 0
	}
	place, _, ahead := d.find(hashOfDestination(d.seed, a), t.ticks())
	if place == nil {
		return 2 * MaxAhead
	}
	return time.Duration(max(ahead+d.interval, d.window)-d.window) << tickShift
}
