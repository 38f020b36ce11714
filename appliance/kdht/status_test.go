package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/status"
)

// sample is what a node in trouble says.
func sample() status.Report {
	external := netip.MustParseAddr("198.18.0.1")
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	return status.Report{
		Version: "v1.2.3", Time: at, Started: at.Add(-3 * time.Hour), PID: 7, Network: "private", Ready: true,
		Host: status.Host{
			Name: "attic", Kernel: "6.12.1", Arch: "arm64", Memory: 1 << 30, MemoryAvailable: 512 << 20,
			Disk: status.Disk{Path: "/perm", Size: 28 << 30, Free: 3 << 30}, Temperatures: []status.Temperature{{Name: "cpu", Celsius: 47.2}},
		},
		Health: health.Tree{
			State: health.Degraded, Ready: true, Headline: "Degraded. Nothing can be stored since 2026-11-27 11:00:00 UTC: no space left on device.",
			Checks: []health.Check{
				{Name: "link", State: health.Good, Sentence: "eth0 is up.", Since: at.Add(-time.Hour)},
				{Name: "store", State: health.Failed, Sentence: "Nothing can be stored\x1b[2J.", Since: at.Add(-time.Hour)},
			},
		},
		Families: []status.Family{{
			Family: "IPv4", ID: strings.Repeat("ab", 20), Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6881")}, External: &external,
			Contacts: 1234, Good: 1034, RTT: 0.0321, NetworkSize: 9876543.2,
		}},
		Lookups: 1, InFlight: 4, Recursion: status.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, UnderWay: 2},
		Node: []status.Counter{
			{Group: "query answered", Name: "ping", Value: 10}, {Group: "query answered", Name: "put", Value: 20}, {Group: "query answered", Name: "get", Value: 0},
			{Group: "query sent", Name: "ping", Value: 7000}, {Group: "drop", Name: "malformed", Value: 5}, {Group: "recursion", Name: "found", Value: 77},
		},
		XDP: status.XDP{
			Mode: "auto", Active: true, Execution: "JIT", Held: status.Held{Known: 1024}, Hot: status.Hot{Keys: 3}, Recursion: new(status.KernelRecursion),
			NICs: []status.NIC{
				{Name: "eth0", Driver: "igb", Wanted: "auto", Mode: "native", Paths: 3}, {Name: "eth2", Driver: "r8169", Wanted: "auto", Mode: "generic", Paths: 1, OnePath: "an old kernel"}, {Name: "eth1", Kind: "veth", Wanted: "auto", Mode: "none", Reason: "busy"}, {Name: "lo", Wanted: "none"},
			},
			Counters: []status.KernelCounter{{Reason: "answered", Query: "ping", Packets: 1234567}, {Reason: "answered", Query: "find_node", Packets: 1}, {Reason: "limited", Packets: 3}},
		},
		Store:    status.Store{Path: "/perm/kdht/kdht.db", Items: 1234, Infohashes: 2, Peers: 3, Bytes: 5 << 20, MaxBytes: 64 << 20, FileBytes: 8 << 20},
		Sections: []status.Section{{Title: "Updates", Facts: []status.Fact{{Name: "Running", Value: "v1.2.3 (slot 2), committed"}, {Name: "Offered", Value: "v1.3"}}}, {Title: "None"}},
		Events:   []status.Event{{Time: at.Local(), Level: "WARN", Message: "a flood", Detail: "dropped/s=7"}},
	}
}

// page serves what it holds at /status.
type page struct {
	mu     sync.Mutex
	report status.Report
	code   int
	asked  int
}

func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	w.WriteHeader(p.code)
	_ = json.NewEncoder(w).Encode(p.report)
}

func (p *page) change(f func(*status.Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.report)
}

func TestStatusForPeople(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	srv := httptest.NewServer(&page{report: sample(), code: http.StatusOK})
	defer srv.Close()
	plainly := kdht(t, "status", "--http", srv.URL)
	if plainly.code != exitOK || strings.Contains(plainly.stdout, "\x1b") {
		t.Errorf("%+v", plainly)
	}
	golden(t, "status.txt", plainly.stdout)
	tty := func() result {
		return kdhtWith(t, &system{args: []string{"status", "--http", srv.URL}, stdoutIsTerminal: true})
	}
	golden(t, "status-colours.txt", tty().stdout)
	for _, env := range [][2]string{{"NO_COLOR", "1"}, {"TERM", "dumb"}} {
		t.Run(env[0], func(t *testing.T) {
			t.Setenv(env[0], env[1])
			if r := tty(); r.stdout != plainly.stdout {
				t.Errorf("%q", r.stdout)
			}
		})
	}
}

func TestStatusCheckIsAnExitCode(t *testing.T) {
	p := &page{report: sample(), code: http.StatusOK}
	srv := httptest.NewServer(p)
	defer srv.Close()
	check := func() result { return kdht(t, "status", "--check", "--http", srv.URL) }
	if r := check(); r.code != exitOK || !strings.HasPrefix(r.stdout, "Degraded. Nothing") || strings.Count(r.stdout, "\n") != 3 || r.stderr != "" {
		t.Errorf("ready: %+v", r)
	}
	p.change(func(r *status.Report) {
		r.Ready, r.Health.Headline = false, "Not working. eth0 is down."
		p.code = http.StatusServiceUnavailable
	})
	if r := check(); r.code != exitFailure || !strings.HasPrefix(r.stdout, "Not working. eth0 is down.\n") || r.stderr != "" {
		t.Errorf("not ready: %+v", r)
	}
	srv.Close()
	if r := check(); r.code != exitUnreachable {
		t.Errorf("gone: %+v", r)
	}
	if r := kdht(t, "status", "--check", "--watch"); r.code != exitUsage {
		t.Errorf("two forms: %+v", r)
	}
	if r := kdht(t, "status", "--watch", "--every", "0s"); r.code != exitUsage {
		t.Errorf("no pause: %+v", r)
	}
}

// screens is a terminal that tells what was drawn on it, frame by frame.
type screens struct {
	mu     sync.Mutex
	all    bytes.Buffer
	frames chan string
}

func (s *screens) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(b)
	if strings.HasPrefix(string(b), screenHome) {
		s.frames <- string(b)
	}
	return len(b), nil
}

// Watching goes on while the node is away, begins anew with the rates when it is back, fits the terminal, and ends with
// the terminal as it was and exit code 0.
func TestStatusWatch(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	p := &page{report: sample(), code: http.StatusOK}
	srv := httptest.NewServer(p)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &screens{frames: make(chan string, 100)}
	s := &system{
		ctx: ctx, args: []string{"status", "--watch", "--every", "100ms", "--http", srv.URL}, stdout: out, stderr: &bytes.Buffer{}, stdoutIsTerminal: true,
		screen: func() (int, int) { return 60, 20 },
	}
	code := make(chan int, 1)
	go func() { code <- run(s) }()
	until := func(what string, words ...string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case f := <-out.frames:
				lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(f, screenHome), below), lineEnd+"\r\n")
				if len(lines) > 20 {
					t.Fatalf("%d lines", len(lines))
				}
				for _, l := range lines {
					if n := len([]rune(strings.TrimSuffix(l, lineEnd))); n > 60 || strings.ContainsRune(strings.TrimSuffix(l, lineEnd), '\x1b') {
						t.Fatalf("%d columns: %q", n, l)
					}
				}
				all := true
				for _, w := range words {
					all = all && strings.Contains(f, w)
				}
				if all {
					return
				}
			case <-deadline:
				t.Fatalf("never: %s", what)
			}
		}
	}
	until("the first frame", "attic: kdht v1.2.3", "1,234,567")
	p.change(func(r *status.Report) {
		r.Time = r.Time.Add(2 * time.Second)
		r.XDP.Counters[0].Packets += 500
		r.Node[0].Value += 3
	})
	until("rates", "1,235,067  250.0/s", "13  1.5/s")
	p.change(func(*status.Report) { p.code = http.StatusNotFound })
	until("that it is away", "trying again", "1,235,067")
	p.change(func(r *status.Report) {
		p.code = http.StatusOK
		r.PID, r.XDP.Counters[0].Packets, r.Started = 8, 9, r.Time
		r.Time = r.Time.Add(time.Second)
	})
	until("that it is back", "up 1 s")
	p.change(func(r *status.Report) {
		r.Time = r.Time.Add(time.Second)
		r.XDP.Counters[0].Packets += 20
	})
	until("rates of the new process", "20.0/s")
	cancel()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	if all := out.all.String(); !strings.HasPrefix(all, screenBegin) || !strings.HasSuffix(all, screenEnd) {
		t.Error("the terminal is not as it was")
	}
}
