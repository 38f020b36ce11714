package router

import (
	"sync/atomic"
	"time"
)

// RecursionBounds are the times by which [RecursionStats] counts.
var RecursionBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
}

// maxHopsCounted is from how many hops on they are counted together.
const maxHopsCounted = 10

// recursionTimes counts recursions by how long they took, and by their hops.
type recursionTimes struct {
	times [len(RecursionBounds) + 1]atomic.Uint64
	sum   atomic.Int64 // nanoseconds
	hops  [maxHopsCounted + 1]atomic.Uint64
}

// add counts one that was answered.
func (t *recursionTimes) add(d time.Duration, hops int) {
	i := 0
	for i < len(RecursionBounds) && d > RecursionBounds[i] {
		i++
	}
	t.times[i].Add(1)
	t.sum.Add(int64(d))
	t.hops[min(hops, maxHopsCounted)].Add(1)
}

func (t *recursionTimes) fill(s *RecursionStats) {
	for i := range t.times {
		s.Times[i] = t.times[i].Load()
	}
	s.TimeSum = time.Duration(t.sum.Load())
	for i := range t.hops {
		s.Hops[i] = t.hops[i].Load()
	}
}

// followed is how many referrals the kernel half has followed before.
func (k *headStart) followed() (n int) {
	if k == nil {
		return 0
	}
	for _, a := range k.asked {
		if a.Answered {
			n++
		}
	}
	return n
}
