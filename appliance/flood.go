package appliance

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kdht/appliance/status"
	"kdht/router"
)

const (
	// floodLook is how often the counters are looked at.
	floodLook = 5 * time.Second
	// floodRate is how many datagrams per second must have been dropped or challenged for their limits to count as a flood.
	floodRate = 100
	// floodCalm is how long there must have been fewer for the flood to be over.
	floodCalm = 30 * time.Second
)

// refused counts the datagrams that met a limit.
type refused struct{ dropped, challenged uint64 }

func (r refused) minus(o refused) refused {
	return refused{r.dropped - min(r.dropped, o.dropped), r.challenged - min(r.challenged, o.challenged)}
}

// perSecond is the rate of all over a time.
func perSecond(n uint64, d time.Duration) uint64 { return uint64(float64(n) / max(d.Seconds(), 0.001)) }

// floodWatch is a task that says in the log when a flood begins and ends.
type floodWatch struct {
	read  func() refused
	log   *slog.Logger
	ready chan struct{}

	mu      sync.Mutex
	last    refused
	at      time.Time // of last
	since   time.Time // when the flood began; zero: there is none
	before  refused   // when it began
	calm    time.Time // until when it was last above the rate
	peak    uint64    // per second
	dropped uint64    // per second, now
	asked   uint64
}

func newFloodWatch(read func() refused, log *slog.Logger) *floodWatch {
	f := &floodWatch{read: read, log: log, ready: make(chan struct{})}
	close(f.ready)
	return f
}

func (f *floodWatch) String() string         { return "flood watch" }
func (f *floodWatch) Ready() <-chan struct{} { return f.ready }

// Run looks at the counters until ctx ends.
func (f *floodWatch) Run(ctx context.Context) error {
	f.look(time.Now())
	t := time.NewTicker(floodLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			f.look(now)
		}
	}
}

// look compares the counters with those of last time.
func (f *floodWatch) look(now time.Time) {
	r := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.at.IsZero()
	more, d := r.minus(f.last), now.Sub(f.at)
	before := f.last
	f.last, f.at = r, now
	if first {
		return // the kernel's counters may be those of years
	}
	f.dropped, f.asked = perSecond(more.dropped, d), perSecond(more.challenged, d)
	rate := f.dropped + f.asked
	if rate >= floodRate {
		f.calm = now
		if f.since.IsZero() {
			f.since, f.before, f.peak = now.Add(-d), before, 0
			f.log.Warn("a flood of datagrams is held off", "dropped/s", f.dropped, "challenged/s", f.asked)
		}
		f.peak = max(f.peak, rate)
	}
	if !f.since.IsZero() && now.Sub(f.calm) >= floodCalm {
		all := r.minus(f.before)
		f.log.Info("the flood is over", "lasted", f.calm.Sub(f.since).Round(time.Second), "dropped", all.dropped, "challenged", all.challenged, "peak/s", f.peak)
		f.since = time.Time{}
	}
}

// problems says that a flood is under way.
func (f *floodWatch) problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return nil
	}
	return []string{fmt.Sprintf("A flood of datagrams is held off since %s: at the moment %d per second are dropped and %d asked for a sign that their sender is where he says.",
		f.since.UTC().Format(time.DateTime+" MST"), f.dropped, f.asked)}
}

// refused adds up what both halves refused.
func (p *process) refused() (r refused) {
	for _, c := range p.half.Report().Counters {
		r.add(c)
	}
	for _, c := range p.node.Stats().Counters {
		r.addUser(c)
	}
	return r
}

// add takes in a counter of the kernel half.
func (r *refused) add(c status.KernelCounter) {
	switch c.Reason {
	case "limited", "overloaded":
		r.dropped += c.Packets
	case "challenged":
		r.challenged += c.Packets
	}
}

// addUser takes in a counter of user space.
func (r *refused) addUser(c router.Counter) {
	switch [2]string{c.Group, c.Name} {
	case [2]string{"drop", "too many from its source"}, [2]string{"drop", "unproven source"}:
		r.dropped += c.Value
	case [2]string{"unproven source", "challenged"}:
		r.challenged += c.Value
	}
}
