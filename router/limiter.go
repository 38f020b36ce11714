package router

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"kdht/bpf/limit"
)

// Limits of what the node sends of its own accord. Other nodes ignore who sends them more: libtorrent the 50th
// datagram within 10 seconds, replies included; others from 10 at once and 2 per second on. What both halves of the node
// send to an address counts together, and is at most 36 queries within 10 seconds; what is left is for replies, of which
// an address gets no more than it sends queries.
const (
	destinationInterval = 350 * time.Millisecond // per IP address, sustained
	destinationBurst    = 8
	limiterPatience     = 3 * time.Second // how long a query may wait for its turn
)

// paceOf is what one address is sent at a rate of so many queries per second: as many at once as in a quarter of a second,
// but 8 at least.
func paceOf(rate float64) limit.Pace {
	return limit.Pace{Rate: rate, Burst: max(destinationBurst, int(rate/4))}
}

// limiter paces outgoing queries, per destination and in all, by the virtual scheduling form of the leaky bucket:
// it keeps, for each, the time at which the bucket will be empty.
type limiter struct {
	pace  limit.Pace
	clock clock
	dest  atomic.Pointer[limit.Destinations] // the kernel half's, while there is one

	mu       sync.Mutex
	interval time.Duration // between two queries, in all
	burst    time.Duration
	all      time.Time
}

// newLimiter allows rate queries a second in all, and destRate to one address.
func newLimiter(rate int, destRate float64, c clock) *limiter {
	interval := time.Second / time.Duration(rate)
	l := &limiter{
		pace: paceOf(destRate), clock: c,
		interval: interval,
		burst:    max(interval*time.Duration(rate)/4, interval),
	}
	l.share(nil)
	return l
}

// share has the limiter count what it sends to each destination where somebody else does too; nil: on its own.
func (l *limiter) share(d *limit.Destinations) {
	if d == nil {
		d = limit.NewDestinations(l.pace, randomSeed(), new(limit.Table))
	}
	l.dest.Store(d)
}

// queue takes a turn and returns how long to wait for it; false if that would be too long.
func (l *limiter) queue(a netip.Addr, now time.Time) (time.Duration, bool) {
	return l.reserve(a, now, limiterPatience)
}

// spare takes a turn if it is there at once, and reports whether it was: for what is sent again, which weighs as much on
// others as the first.
func (l *limiter) spare(a netip.Addr, now time.Time) bool {
	_, ok := l.reserve(a, now, 0)
	return ok
}

// reserve is queue with a patience.
func (l *limiter) reserve(a netip.Addr, now time.Time, patience time.Duration) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, wait := turn(l.all, now, l.interval, l.burst)
	if wait > patience {
		return 0, false
	}
	w, ok := l.reserveAt(a, now, patience)
	if !ok {
		return 0, false
	}
	l.all = all
	return max(wait, w), true
}

// wait returns how long a query would have to wait for its turn.
func (l *limiter) wait(a netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	_, wait := turn(l.all, now, l.interval, l.burst)
	l.mu.Unlock()
	return max(wait, l.toDestination(a, now))
}

// reserveAt takes a turn at a destination, whatever is sent to others.
func (l *limiter) reserveAt(a netip.Addr, now time.Time, patience time.Duration) (time.Duration, bool) {
	if a.IsLoopback() { // nobody but this host is bothered
		return 0, true
	}
	return l.dest.Load().Reserve(a, l.clock.at(now), patience)
}

// toDestination returns how long a query would have to wait for its turn at a destination.
func (l *limiter) toDestination(a netip.Addr, now time.Time) time.Duration {
	if a.IsLoopback() {
		return 0
	}
	return l.dest.Load().Wait(a, l.clock.at(now))
}

// turn adds one query to a bucket that will be empty at the time empty.
func turn(empty, now time.Time, interval, burst time.Duration) (next time.Time, wait time.Duration) {
	if empty.Before(now) {
		empty = now
	}
	next = empty.Add(interval)
	return next, max(0, next.Sub(now)-burst)
}
