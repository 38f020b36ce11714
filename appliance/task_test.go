package appliance_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance"
)

// diary records what tasks do, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) write(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, s)
}

func (d *diary) read() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.entries, " ")
}

// task writes into a diary, and then does what run says.
type task struct {
	name  string
	diary *diary
	ready chan struct{}
	run   func(ctx context.Context) error
}

func newTask(d *diary, name string, run func(context.Context) error) *task {
	return &task{name, d, make(chan struct{}), run}
}

func (t *task) String() string         { return t.name }
func (t *task) Ready() <-chan struct{} { return t.ready }
func (t *task) Run(ctx context.Context) error {
	t.diary.write("+" + t.name)
	err := t.run(ctx)
	t.diary.write("-" + t.name)
	return err
}

// untilStopped is a task's Run that takes a second to get ready and a second to stop.
func untilStopped(t **task) func(context.Context) error {
	return func(ctx context.Context) error {
		time.Sleep(time.Second)
		close((*t).ready)
		<-ctx.Done()
		time.Sleep(time.Second)
		return nil
	}
}

func simple(d *diary, name string) *task {
	var t *task
	t = newTask(d, name, untilStopped(&t))
	return t
}

var quiet = slog.New(slog.DiscardHandler)

func TestSuperviseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, func() { d.write("stop"); cancel() })
		err := appliance.Supervise(ctx, quiet, simple(d, "a"), simple(d, "b"), simple(d, "c"))
		if want := "+a +b +c stop -c -b -a"; err != nil || d.read() != want {
			t.Errorf("Supervise = %v, diary %q, want nil, %q", err, d.read(), want)
		}
	})
}

func TestSuperviseStopWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err := appliance.Supervise(ctx, quiet, simple(d, "a"), simple(d, "b"), simple(d, "c"))
		if want := "+a +b -b -a"; err != nil || d.read() != want {
			t.Errorf("Supervise = %v, diary %q, want nil, %q", err, d.read(), want)
		}
	})
}

func TestSuperviseFailure(t *testing.T) {
	bad := errors.New("bad")
	for name, c := range map[string]struct {
		returns error
		early   bool
		want    error
		diary   string
	}{
		"after start":   {bad, false, bad, "+a +b +c -b -c -a"},
		"before ready":  {bad, true, bad, "+a +b -b -a"},
		"without error": {nil, false, appliance.ErrEnded, "+a +b +c -b -c -a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &diary{}
				var b *task
				b = newTask(d, "b", func(context.Context) error {
					if !c.early {
						close(b.ready)
						time.Sleep(time.Minute)
					}
					return c.returns
				})
				err := appliance.Supervise(t.Context(), quiet, simple(d, "a"), b, simple(d, "c"))
				if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "b: ") || d.read() != c.diary {
					t.Errorf("Supervise = %v, diary %q, want b: %v, %q", err, d.read(), c.want, c.diary)
				}
			})
		})
	}
}

func TestSuperviseStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		release := make(chan struct{})
		var b *task
		b = newTask(d, "b", func(context.Context) error {
			close(b.ready)
			<-release
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := appliance.Supervise(ctx, quiet, simple(d, "a"), b)
		if !errors.Is(err, appliance.ErrStuck) || d.read() != "+a +b -a" {
			t.Errorf("Supervise = %v, diary %q, want %v and a stopped all the same", err, d.read(), appliance.ErrStuck)
		}
		if took := time.Since(began); took != 6*time.Second+appliance.StopTimeout {
			t.Errorf("it took %v", took)
		}
		close(release)
	})
}

func TestRestarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		began := time.Now()
		d := &diary{}
		inner := newTask(d, "x", func(ctx context.Context) error {
			starts = append(starts, time.Since(began))
			if len(starts) == 9 { // then it works, for a while
				time.Sleep(2 * time.Minute)
			}
			return errors.New("bad")
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+35*time.Second)
		defer cancel()
		r := appliance.Restarting(inner, quiet)
		if err := r.Run(ctx); err != nil || r.String() != "x" {
			t.Errorf("Run of %v = %v, want nil after its context ended", r, err)
		}
		var want []time.Duration
		for _, s := range []int{0, 1, 3, 7, 15, 31, 63, 123, 183, 304, 306, 310, 318, 334} {
			want = append(want, time.Duration(s)*time.Second)
		}
		if !slices.Equal(starts, want) {
			t.Errorf("started at %v, want %v", starts, want)
		}
	})
}
