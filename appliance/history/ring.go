package history

import (
	"math"
	"time"
)

// sample is every metric in one step of time.
type sample [Metrics]Value

func unknown() (s sample) {
	for m := range s {
		s[m] = gap
	}
	return s
}

// ring is the samples of the last steps. Steps are numbered from the begin of the monotonic clock that its owner uses.
type ring struct {
	step    time.Duration
	samples []sample
	last    int64 // number of the newest step that ended

	// The step under way: the reading at its begin, and the levels since.
	started bool
	begun   time.Duration
	first   Reading
	sum     [Metrics]float64
	n       [Metrics]int
}

func newRing(step time.Duration, n int) *ring {
	r := &ring{step: step, samples: make([]sample, n), last: -1}
	for i := range r.samples {
		r.samples[i] = unknown()
	}
	return r
}

// at is the place of a step.
func (r *ring) at(number int64) *sample {
	n := int64(len(r.samples))
	return &r.samples[((number%n)+n)%n]
}

// add takes in a reading at a time and reports whether it ended a step.
func (r *ring) add(now time.Duration, x Reading) bool {
	if !r.started {
		r.started, r.begun, r.first = true, now, x
	}
	for m, v := range x {
		if !about[m].rate && !math.IsNaN(v) {
			r.sum[m] += v
			r.n[m]++
		}
	}
	number := int64(now/r.step) - 1 // the newest that has ended by now
	if number <= r.last {
		return false
	}
	// What nobody measured is a gap; steps longer ago than the ring need not be cleared twice.
	for i := max(r.last+1, number-int64(len(r.samples))); i < number; i++ {
		*r.at(i) = unknown()
	}
	s := unknown()
	for m := range s {
		switch {
		case !about[m].rate && r.n[m] > 0:
			s[m] = Value(r.sum[m] / float64(r.n[m]))
		case about[m].rate:
			s[m] = rate(r.first[m], x[m], now-r.begun)
		}
	}
	*r.at(number) = s
	r.last, r.begun, r.first = number, now, x
	clear(r.sum[:])
	clear(r.n[:])
	return true
}

// rate is how fast a counter went from one value to another. One that is smaller than before began anew.
func rate(from, to float64, d time.Duration) Value {
	if math.IsNaN(from) || math.IsNaN(to) || d <= 0 {
		return gap
	}
	if to < from {
		from = 0
	}
	return Value((to - from) / d.Seconds())
}

// list returns the samples of a metric, the oldest first.
func (r *ring) list(m Metric) []Value {
	out := make([]Value, len(r.samples))
	for i := range out {
		out[i] = r.at(r.last + 1 + int64(i))[m]
	}
	return out
}

// merge takes over values of a metric, the oldest first, of which the newest is so many steps older than ours, where
// nothing else is known.
func (r *ring) merge(m Metric, old []Value, age int64) {
	n := int64(len(r.samples))
	for i, v := range old {
		back := age + int64(len(old)-1-i)
		if back < 0 || back >= n {
			continue
		}
		if p := &r.at(r.last - back)[m]; !p.Known() {
			*p = v
		}
	}
}
