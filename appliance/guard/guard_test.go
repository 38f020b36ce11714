package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/trial"
)

// well is the answer of an appliance that is.
func well() trial.Health {
	var h trial.Health
	for _, name := range trial.Required {
		h.Checks = append(h.Checks, trial.Check{Name: name, OK: true})
	}
	return h
}

func broken(name, detail string) trial.Health {
	h := well()
	for i := range h.Checks {
		if h.Checks[i].Name == name {
			h.Checks[i] = trial.Check{Name: name, Detail: detail}
		}
	}
	return h
}

var errRestart = errors.New("restarted")

// stage is a trial with a clock of its own and a real server as the appliance.
type stage struct {
	guard
	clock     time.Duration
	committed int
	restarted int
	said      []string
	failures  int // of commits
}

// newStage makes a trial in which the n-th question gets answer(n); nil is a crash of the server's side.
func newStage(t *testing.T, answer func(n int) any) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{}
	s.socket, s.records = filepath.Join(dir, "s"), filepath.Join(dir, "update")
	s.now = func() time.Duration { return s.clock }
	s.sleep = func(d time.Duration) { s.clock += d }
	s.say = func(line string) { s.said = append(s.said, line) }
	s.restart = func() error { s.restarted++; return errRestart }
	s.commit = func(bootdisk.Target) error {
		if s.failures > 0 {
			s.failures--
			return errors.New("I/O error")
		}
		s.committed++
		return nil
	}
	if answer == nil {
		return s
	}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch a := answer(int(n.Add(1))).(type) {
		case nil:
			panic(http.ErrAbortHandler)
		case string:
			_, _ = w.Write([]byte(a))
		case int:
			http.Error(w, "no", a)
		default:
			_ = json.NewEncoder(w).Encode(a)
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

var target = bootdisk.Target{From: bootdisk.Slot2, To: bootdisk.Slot3, Platform: bootdisk.UEFI}

func TestTrials(t *testing.T) {
	for _, c := range []struct {
		name     string
		answer   func(n int) any
		failures int
		commits  bool
		reason   string
	}{
		{"well", func(int) any { return well() }, 0, true, ""},
		{"well after a while", func(n int) any {
			if n < 20 {
				return broken("answered", "no node answers")
			}
			return well()
		}, 0, true, ""},
		{"crashes at start", nil, 0, false, "the appliance does not run"},
		{"hangs up", func(int) any { return nil }, 0, false, "the appliance answers nonsense"},
		{"an old appliance", func(int) any { return 404 }, 0, false, "404"},
		{"garbage", func(int) any { return "ok" }, 0, false, "nonsense"},
		{"a check is missing", func(int) any { h := well(); h.Checks = h.Checks[1:]; return h }, 0, false, "store: not checked"},
		{"no kernel half", func(int) any { return broken("kernel", "not attached") }, 0, false, "kernel: not attached"},
		{"port taken", func(int) any { return broken("answers", "connection refused") }, 0, false, "answers: connection refused"},
		{"comes and goes", func(n int) any {
			if n%trial.DefaultPasses == 0 {
				return broken("tasks", "node restarts")
			}
			return well()
		}, 0, false, "node restarts"},
		{"disk fails once", func(int) any { return well() }, 1, true, ""},
		{"disk fails", func(int) any { return well() }, 1000, false, "it cannot be committed: I/O error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, c.answer)
			s.failures = c.failures
			err := s.run(target)
			var out trial.Outcome
			if ok, errRead := trial.Read(s.records, trial.OutcomeFile, &out); !ok || errRead != nil {
				t.Fatalf("no outcome: %v", errRead)
			}
			if c.commits {
				if err != nil || s.committed != 1 || s.restarted != 0 || !out.Committed {
					t.Fatalf("%v, %+v, %d commits, %d restarts: %q", err, out, s.committed, s.restarted, s.said)
				}
				return
			}
			if !errors.Is(err, errRestart) || s.committed != 0 || s.restarted != 1 || out.Committed {
				t.Fatalf("%v, %+v, %d commits, %d restarts: %q", err, out, s.committed, s.restarted, s.said)
			}
			if s.clock < trial.DefaultDeadline || s.clock > trial.DefaultDeadline+every {
				t.Errorf("after %s", s.clock)
			}
			if !strings.Contains(out.Reason, c.reason) {
				t.Errorf("reason %q, want %q", out.Reason, c.reason)
			}
		})
	}
}

// TestTerms makes sure that the record's terms hold, also for a guard that was started again, and that odd ones do not.
func TestTerms(t *testing.T) {
	s := newStage(t, nil)
	s.clock = 50 * time.Second // a crash loop of the guard's own
	if err := trial.Write(s.records, trial.TrialFile, trial.Trial{Target: target, Deadline: 60, Passes: 2}); err != nil {
		t.Fatal(err)
	}
	if err := s.run(target); !errors.Is(err, errRestart) || s.clock > 63*time.Second {
		t.Errorf("%v after %s", err, s.clock)
	}
	for _, r := range []trial.Trial{{Target: target, Deadline: 1e9, Passes: 1e6}, {Target: target, Deadline: -5, Passes: -1}, {Deadline: 60, Passes: 1}} {
		if err := trial.Write(s.records, trial.TrialFile, r); err != nil {
			t.Fatal(err)
		}
		if d, p := deadlineOf(s.records, "", target); d != trial.DefaultDeadline || p != trial.DefaultPasses {
			t.Errorf("%+v gives %s, %d", r, d, p)
		}
	}
}

// TestTermsWithoutRecord has a trial find no record, as when /perm cannot be mounted: the kernel's command line has its deadline.
func TestTermsWithoutRecord(t *testing.T) {
	for _, c := range []struct {
		seconds float64
		want    time.Duration
	}{{60, time.Minute}, {0, trial.DefaultDeadline}, {5, trial.DefaultDeadline}, {1e9, trial.DefaultDeadline}} {
		s := newStage(t, func(int) any { return broken("store", "the state is in memory, and was not before") })
		r := trial.Trial{Target: target, Deadline: c.seconds, Before: trial.Before{Kernel: true}}
		s.line = "root=/dev/sda3 " + target.Marker() + " " + r.Word()
		if err := s.run(target); !errors.Is(err, errRestart) || s.clock < c.want || s.clock > c.want+every {
			t.Errorf("%q: %v after %s, want %s", s.line, err, s.clock, c.want)
		}
	}
}

// TestSmall makes sure that the guard does not depend on what may be broken.
func TestSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for _, big := range []string{"net/http", "tailscale.com", "go.etcd.io", "github.com/", "kdht/router", "kdht/store", "kdht/bpf", "kdht/config"} {
			if strings.HasPrefix(dep, big) {
				t.Errorf("depends on %s", dep)
			}
		}
	}
}
