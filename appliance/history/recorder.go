package history

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Steps and lengths of what is kept.
const (
	MinuteStep = 2 * time.Second
	Minutes    = 10 * time.Minute
	DayStep    = 2 * time.Minute
	Day        = 24 * time.Hour
)

// saveEvery is how often the day is written to its file. It is some 30 KiB, so flash memory does not wear.
const saveEvery = time.Hour

// Options of a Recorder.
type Options struct {
	// Read gives the present reading. It is called every [MinuteStep], by one goroutine.
	Read func() Reading
	// File is where the day is kept; empty for nowhere.
	File string
	Log  *slog.Logger
}

// Recorder keeps the past. It is a task of package appliance. What it gives may be asked for by any goroutine.
type Recorder struct {
	o     Options
	begin time.Time
	ready chan struct{}
	old   *Span // of the process before, until its place in the day is known

	mu      sync.Mutex
	minutes *ring
	day     *ring
	wake    chan struct{} // closed at the next step; nil while nobody waits
	ended   bool
}

// New returns a Recorder. Nothing is kept before it runs.
func New(o Options) *Recorder {
	r := &Recorder{
		o: o, begin: time.Now(), ready: make(chan struct{}),
		minutes: newRing(MinuteStep, int(Minutes/MinuteStep)), day: newRing(DayStep, int(Day/DayStep)),
	}
	close(r.ready)
	return r
}

func (r *Recorder) String() string         { return "history" }
func (r *Recorder) Ready() <-chan struct{} { return r.ready }

// Run keeps what it reads until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	defer r.end()
	r.restore()
	r.take()
	tick := time.NewTicker(MinuteStep)
	defer tick.Stop()
	saved := time.Now()
	for {
		select {
		case <-ctx.Done():
			r.save()
			return nil
		case <-tick.C:
		}
		r.take()
		if time.Since(saved) >= saveEvery {
			r.save()
			saved = time.Now()
		}
	}
}

// take reads once.
func (r *Recorder) take() {
	x := r.o.Read()
	now := time.Since(r.begin)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = false
	if r.day.add(now, x) || r.old != nil {
		r.mergeOld(time.Now())
	}
	if r.minutes.add(now, x) && r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// end has nobody wait any more.
func (r *Recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// Next waits for the next step to end. It reports false if ctx, or the Recorder, ended first.
func (r *Recorder) Next(ctx context.Context) bool {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return false
	}
	if r.wake == nil {
		r.wake = make(chan struct{})
	}
	wake := r.wake
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended
}

// History is what is kept, at one moment.
type History struct {
	Minutes Span `json:"minutes"`
	Day     Span `json:"day"`
}

// Span is the values of a length of time.
type Span struct {
	Step   float64   `json:"step"` // seconds from one value to the next
	End    time.Time `json:"end"`  // of the last value, by the clock as it is now
	Series []Series  `json:"series"`
}

// Series is the values of one metric.
type Series struct {
	Name   string  `json:"name"`
	Help   string  `json:"help"`
	Values []Value `json:"values"` // the oldest first; null where nothing was measured
}

// Of returns the values of a metric; nil if there are none.
func (s Span) Of(m Metric) []Value {
	for _, x := range s.Series {
		if x.Name == m.String() {
			return x.Values
		}
	}
	return nil
}

// History returns what is kept.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{r.span(r.minutes), r.span(r.day)}
}

// span gives a ring with times of day. r.mu is held.
func (r *Recorder) span(x *ring) Span {
	now := time.Now()
	s := Span{Step: x.step.Seconds(), End: now.Add(time.Duration(x.last+1)*x.step - now.Sub(r.begin)).Round(0)}
	for m := range Metrics {
		s.Series = append(s.Series, Series{m.String(), m.Help(), x.list(m)})
	}
	return s
}
