package history_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance/history"
)

// source is what is measured.
type source struct {
	reading atomic.Pointer[history.Reading]
}

func (s *source) set(kernel, user, lookups float64) {
	x := history.Reading{history.Kernel: kernel, history.User: user, history.Lookups: lookups, history.RTT4: math.NaN(), history.RTT6: math.NaN()}
	s.reading.Store(&x)
}

// run runs a Recorder, f with it, and stops it.
func run(t *testing.T, s *source, file string, f func(*history.Recorder)) {
	t.Helper()
	r := history.New(history.Options{Read: func() history.Reading { return *s.reading.Load() }, File: file, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	synctest.Wait()
	f(r)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// pass lets time pass, and all that happens until then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// saved is the day in a file, and save writes one there.
func saved(t *testing.T, file string) (day history.Span) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &day); err != nil {
		t.Fatal(err)
	}
	return day
}

func save(t *testing.T, file string, day history.Span) {
	t.Helper()
	b, err := json.Marshal(day)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tail is the last n values.
func tail(s history.Span, m history.Metric, n int) []history.Value {
	v := s.Of(m)
	return v[len(v)-n:]
}

func equal(t *testing.T, what string, got []history.Value, want ...float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i, w := range want {
		if got[i].Known() != !math.IsNaN(w) || got[i].Known() && math.Abs(float64(got[i])-w) > 1e-3*math.Abs(w) {
			t.Errorf("%s: %v, want %v", what, got, want)
			return
		}
	}
}

var nan = math.NaN()

func TestRatesAreDifferencesOfCountersAndLevelsAreMeans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s source
		s.set(1000, 500, 4)
		run(t, &s, "", func(r *history.Recorder) {
			pass(time.Second)
			s.set(1100, 500, 4)
			pass(2 * time.Second)
			s.set(1300, 510, 8)
			pass(2 * time.Second)
			h := r.History()
			equal(t, "kernel", tail(h.Minutes, history.Kernel, 3), nan, 50, 100)
			equal(t, "user", tail(h.Minutes, history.User, 3), nan, 0, 5)
			equal(t, "lookups", tail(h.Minutes, history.Lookups, 3), nan, 4, 8)
			equal(t, "unknown", tail(h.Minutes, history.RTT4, 3), nan, nan, nan)
			if n := len(h.Minutes.Of(history.Kernel)); n != 300 {
				t.Errorf("%d values of the last minutes", n)
			}
			pass(115 * time.Second) // the first two minutes are full
			h = r.History()
			equal(t, "kernel, day", tail(h.Day, history.Kernel, 2), nan, 300.0/120)
			equal(t, "lookups, day", tail(h.Day, history.Lookups, 2), nan, (2*4+59*8)/61.0)
			if age := time.Since(h.Day.End); age < 0 || age > 2*time.Second {
				t.Errorf("the day ends %v ago", age)
			}
		})
	})
}

func TestCounterThatBeginsAnewCountsFromZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s source
		s.set(1e9, 7, 0)
		run(t, &s, "", func(r *history.Recorder) {
			pass(3 * time.Second)
			s.set(40, 7, 0)
			pass(2 * time.Second)
			equal(t, "kernel", tail(r.History().Minutes, history.Kernel, 2), 0, 20)
			// The kernel half goes, and comes back with what it had.
			s.set(nan, 7, 0)
			pass(2 * time.Second)
			s.set(1e9, 7, 0)
			pass(4 * time.Second)
			equal(t, "kernel", tail(r.History().Minutes, history.Kernel, 4), 20, nan, nan, 0)
		})
	})
}

func TestOldestIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s source
		s.set(0, 0, 1)
		run(t, &s, "", func(r *history.Recorder) {
			pass(9 * time.Minute)
			s.set(0, 0, 2)
			pass(11 * time.Minute)
			for _, v := range r.History().Minutes.Of(history.Lookups) {
				if v != 2 {
					t.Fatalf("%v is older than ten minutes", v)
				}
			}
			pass(25 * time.Hour)
			day := r.History().Day.Of(history.Lookups)
			if len(day) != 720 || day[0] != 2 {
				t.Errorf("%d values of the day, the first %v", len(day), day[0])
			}
		})
	})
}

func TestDaySurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.json")
		var s source
		s.set(0, 0, 3)
		run(t, &s, file, func(*history.Recorder) { pass(10 * time.Minute) })
		pass(6 * time.Minute)
		s.set(0, 0, 5)
		run(t, &s, file, func(r *history.Recorder) {
			equal(t, "at once", tail(r.History().Day, history.Lookups, 8), 3, 3, 3, 3, 3, nan, nan, nan)
			pass(4 * time.Minute)
			equal(t, "day", tail(r.History().Day, history.Lookups, 11), nan, 3, 3, 3, 3, 3, nan, nan, nan, 5, 5)
		})
		// It is of no use after a day.
		pass(30 * time.Hour)
		run(t, &s, file, func(r *history.Recorder) {
			for _, v := range r.History().Day.Of(history.Lookups) {
				if v.Known() {
					t.Fatal("a value that is older than a day")
				}
			}
		})
	})
}

func TestDayIsSavedEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.json")
		var s source
		s.set(0, 0, 3)
		run(t, &s, file, func(*history.Recorder) {
			if _, err := os.Stat(file); err == nil {
				t.Error("written at once")
			}
			pass(61 * time.Minute)
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
			if left, err := filepath.Glob(file + "?*"); err != nil || left != nil {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	})
}

// A machine without a clock of its own begins long before what it has kept. That comes to its place once the time is set.
func TestDayWaitsForAClockThatCanBeBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.json")
		var s source
		s.set(0, 0, 3)
		run(t, &s, file, func(*history.Recorder) { pass(4 * time.Minute) })
		old := saved(t, file)
		old.End = old.End.Add(5 * time.Minute) // as if the clock had gone back
		save(t, file, old)
		s.set(0, 0, 5)
		run(t, &s, file, func(r *history.Recorder) {
			pass(4 * time.Minute)
			equal(t, "before", tail(r.History().Day, history.Lookups, 4), nan, nan, 5, 5)
			pass(4 * time.Minute) // the clock has come to the end of what was kept, and gone on
			equal(t, "after", tail(r.History().Day, history.Lookups, 6), nan, nan, 5, 5, 5, 5)
		})
	})
}

// TestDayOfAWrongClockIsGivenUp has what was kept end far ahead, where the clock will not come.
func TestDayOfAWrongClockIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "history.json")
		var s source
		s.set(0, 0, 3)
		ahead := time.Now().AddDate(10, 0, 0)
		save(t, file, history.Span{Step: history.DayStep.Seconds(), End: ahead})
		run(t, &s, file, func(*history.Recorder) { pass(90 * time.Minute) })
		if !saved(t, file).End.Equal(ahead) {
			t.Error("it was given up at once")
		}
		run(t, &s, file, func(*history.Recorder) { pass(4 * time.Hour) })
		if !saved(t, file).End.Before(ahead) {
			t.Error("the day is not saved any more")
		}
	})
}

func TestFileThatMakesNoSenseIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "noise": "\x00\xff", "other steps": `{"step":7,"series":[]}`, "wrong types": `{"step":120,"series":[{"name":"user","values":["x"]}]}`,
		"too many": `{"step":120,"end":"2000-01-01T00:00:00Z","series":[{"name":"user","values":[` + string(make([]byte, 2<<20)),
		"short":    `{"step":120,"end":"2000-01-01T00:00:00Z","series":[{"name":"user","values":[1]},{"name":"other","values":[1]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "history.json")
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				var s source
				s.set(0, 0, 3)
				run(t, &s, file, func(r *history.Recorder) {
					pass(2 * time.Minute)
					equal(t, "lookups", tail(r.History().Day, history.Lookups, 1), 3)
				})
				// It was replaced by a good one.
				run(t, &s, file, func(r *history.Recorder) {
					equal(t, "lookups", tail(r.History().Day, history.Lookups, 1), 3)
				})
			})
		})
	}
}

func TestNextWaitsForTheNextStepOrTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s source
		s.set(0, 0, 1)
		results := make(chan bool, 3)
		var r *history.Recorder
		run(t, &s, "", func(x *history.Recorder) {
			r = x
			begin := time.Now()
			if !r.Next(t.Context()) || time.Since(begin) != 2*time.Second {
				t.Errorf("waited %v", time.Since(begin))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if r.Next(ctx) {
				t.Error("Next outlived its context")
			}
			go func() { results <- r.Next(context.WithoutCancel(t.Context())) }()
			synctest.Wait()
		})
		if <-results || r.Next(t.Context()) {
			t.Error("a step after the end")
		}
	})
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal([]history.Value{1234.567, 0, history.Value(nan), history.Value(math.Inf(1)), 0.000123456})
	if err != nil || string(b) != "[1235,0,null,null,0.0001235]" {
		t.Errorf("%s, %v", b, err)
	}
}
