package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf/testenv"
)

const (
	// scrapeEvery is how often Prometheus asks, if nobody says otherwise, and scrapePause how often the test does, to have many of them.
	scrapeEvery = 15 * time.Second
	scrapePause = 20 * time.Millisecond
	// A turn is without scrapes and then with them.
	scrapeTurns = 8
	scrapeTurn  = 250 * time.Millisecond
	// leastLoad is what counts as load, in answers per second.
	leastLoad = 10_000
)

// TestScrapeUnderLoad has the metrics of a node scraped that answers as many queries as the generator gets through, by its kernel half and
// by user space alone: at one scrape in 15 s that is less than 1 % of a processor. What the process takes more in turns with
// scrapes than in those between, per answer, is theirs.
func TestScrapeUnderLoad(t *testing.T) {
	testenv.NeedXDP(t)
	r, err := newRig()
	must(t, err)
	t.Cleanup(func() { must(t, r.close()) })
	dir := t.TempDir()
	r.binary = filepath.Join(dir, "kdht")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", r.binary, "kdht/appliance/kdht").CombinedOutput(); err != nil {
		t.Fatalf("build kdht: %v\n%s", err, out)
	}
	for _, xdp := range []string{"native", "off"} {
		t.Run("XDP "+xdp, func(t *testing.T) {
			var log strings.Builder
			cmd := exec.Command(r.binary, "serve", "--state", filepath.Join(dir, xdp), "--http", "127.0.0.1:8080", "--bootstrap", "none",
				"--listen", nodeAddr.String(), "--interface", nodeIf, "--xdp", xdp)
			cmd.Stdout, cmd.Stderr = &log, &log
			must(t, r.node.Start(cmd))
			r.process = cmd.Process
			t.Cleanup(func() {
				r.process = nil
				must(t, cmd.Process.Signal(unix.SIGTERM))
				_ = cmd.Wait() // its output says more than its exit code
				if t.Failed() {
					t.Log(log.String())
				}
			})
			waitFor(t, "the node", func() bool {
				s, err := r.status()
				return err == nil && (xdp == "off" || s.XDP.Active && len(s.XDP.Endpoints) > 0)
			})
			m := r.newMeter(kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == "ping" })])
			type turn struct {
				cpu     time.Duration
				answers int
				took    []time.Duration // of scrapes
			}
			var without, with turn
			one := func(to *turn, scrape bool) {
				ctx, cancel := context.WithCancel(t.Context())
				took := make(chan []time.Duration, 1)
				go func() { took <- r.scrape(t, ctx, scrape) }()
				before := cpuOf(t, cmd.Process.Pid)
				f, err := m.measure(false, scrapeTurn)
				cancel()
				to.took = append(to.took, <-took...)
				must(t, err)
				to.cpu += cpuOf(t, cmd.Process.Pid) - before
				to.answers += f.answers
			}
			begin := time.Now()
			for range scrapeTurns {
				one(&without, false)
				one(&with, true)
			}
			rate := float64(without.answers) / (scrapeTurns * scrapeTurn).Seconds()
			t.Logf("%.0f answers/s for %v on %d processors; %d scrapes, half of them within %v", rate, time.Since(begin).Round(time.Millisecond), runtime.NumCPU(), len(with.took), at(with.took, 0.5))
			if rate < leastLoad || len(with.took) < scrapeTurns {
				t.Fatalf("%.0f answers/s and %d scrapes: that is no load", rate, len(with.took))
			}
			per := float64(without.cpu) / float64(without.answers)
			each := time.Duration((float64(with.cpu) - per*float64(with.answers)) / float64(len(with.took)))
			t.Logf("the process took %v without and %v with them: %v a scrape, %.3f %% of a processor at one in %v", without.cpu, with.cpu, each, 100*float64(each)/float64(scrapeEvery), scrapeEvery)
			if each > scrapeEvery/100 {
				t.Errorf("a scrape takes %v of a processor", each)
			}
		})
	}
}

// scrape gets the metrics again and again until ctx ends, if it is to, and gives how long each took.
func (r *rig) scrape(t *testing.T, ctx context.Context, wanted bool) (took []time.Duration) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = r.node.Do(func() error { c, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return c, err
	}}}
	defer client.CloseIdleConnections()
	for wanted && ctx.Err() == nil {
		begin := time.Now()
		res, err := client.Get("http://127.0.0.1:8080/metrics") // each to its end, so that all of it is counted
		if err != nil {
			t.Error(err)
			return took
		}
		n, err := io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || n < 1<<10 {
			t.Errorf("%s, %d bytes, %v", res.Status, n, err)
			return took
		}
		took = append(took, time.Since(begin))
		select {
		case <-ctx.Done():
		case <-time.After(scrapePause):
		}
	}
	return took
}
