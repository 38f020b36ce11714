package router

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of what the node sends of its own accord. Other nodes ignore who sends them more: libtorrent the 50th
// datagram within 10 seconds, replies included; others from 10 at once and 2 per second on.
const (
	destinationInterval = 350 * time.Millisecond // per IP address, sustained
	destinationBurst    = 8
	limiterPatience     = 3 * time.Second // how long a query may wait for its turn
	limiterSweep        = 1024            // destinations remembered before the idle ones are forgotten
)

// limiter paces outgoing queries, per destination and in all, by the virtual scheduling form of the leaky bucket:
// it keeps, for each, the time at which the bucket will be empty.
type limiter struct {
	mu       sync.Mutex
	interval time.Duration // between two queries, in all
	burst    time.Duration
	all      time.Time
	dest     map[netip.Addr]time.Time
	destEach time.Duration // between two queries to one address
	swept    time.Time
}

// newLimiter allows rate queries a second in all, and destRate to one address.
func newLimiter(rate int, destRate float64) *limiter {
	interval := time.Second / time.Duration(rate)
	return &limiter{
		interval: interval,
		burst:    max(interval*time.Duration(rate)/4, interval),
		dest:     make(map[netip.Addr]time.Time),
		destEach: time.Duration(float64(time.Second) / destRate),
	}
}

// reserve takes a turn and returns how long to wait for it; false if that would be too long.
func (l *limiter) reserve(a netip.Addr, now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	all, wait := turn(l.all, now, l.interval, l.burst)
	dest := l.dest[a]
	limited := !a.IsLoopback() // nobody but this host is bothered
	if limited {
		var w time.Duration
		dest, w = turn(dest, now, l.destEach, l.destEach*destinationBurst)
		wait = max(wait, w)
	}
	if wait > limiterPatience {
		return 0, false
	}
	l.all = all
	if limited {
		l.dest[a] = dest
	}
	return wait, true
}

// spare takes a turn if it is there at once, and reports whether it was: for what is sent again, which weighs as much on
// others as the first.
func (l *limiter) spare(a netip.Addr, now time.Time) bool {
	if !l.free(a, now) {
		return false
	}
	_, ok := l.reserve(a, now)
	return ok
}

// free reports whether a query could be sent now without waiting.
func (l *limiter) free(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, wait := turn(l.all, now, l.interval, l.burst)
	_, w := turn(l.dest[a], now, l.destEach, l.destEach*destinationBurst)
	return wait <= 0 && (w <= 0 || a.IsLoopback())
}

// turn adds one query to a bucket that will be empty at the time empty.
func turn(empty, now time.Time, interval, burst time.Duration) (next time.Time, wait time.Duration) {
	if empty.Before(now) {
		empty = now
	}
	next = empty.Add(interval)
	return next, next.Sub(now) - burst
}

// sweep forgets destinations whose buckets are empty. What remains is bounded, because the rate in all is.
func (l *limiter) sweep(now time.Time) {
	if len(l.dest) < limiterSweep || now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for a, empty := range l.dest {
		if empty.Before(now) {
			delete(l.dest, a)
		}
	}
}
