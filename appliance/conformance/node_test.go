package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
)

const (
	// patience bounds every wait for something that has to happen, on a machine that may be busy.
	patience  = 20 * time.Second
	stopGrace = 15 * time.Second
	pollEvery = 20 * time.Millisecond
)

// node is a `kdht serve` process.
type node struct {
	*fleet.Process
	r    *rig
	http http.Client
}

// serve starts the program on a state directory and waits until it serves, from the kernel too if mode is not off.
// The test ends with a clean stop, if the process still runs, and a look at its log.
func (r *rig) serve(t *testing.T, mode, state string, args ...string) *node {
	t.Helper()
	argv := append([]string{get[string](t)(program()), "serve", "--state", state, "--xdp", mode, "--bootstrap", "none",
		"--network", "private", "--set", "discovery=off", "--set", "limits.queriesPerSecond=100000",
		"--set", "limits.exempt=198.18.0.0/15,2001:db8::/32"}, args...)
	n := &node{r: r}
	n.http.Timeout = patience
	n.http.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = r.peer.Do(func() error { c, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return c, err
	}}
	n.Process = get[*fleet.Process](t)(fleet.Start(r.node, t.TempDir(), "node-xdp-"+mode, nil, nil, argv...))
	t.Cleanup(func() {
		select {
		case <-n.Done():
		default:
			n.stop(t)
		}
		log := n.Log(1 << 20)
		for _, bad := range []string{"panic", "goroutine ", "level=ERROR"} {
			if strings.Contains(log, bad) {
				t.Errorf("the log has %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("log of the node with --xdp %s:\n%s", mode, n.Log(1<<14))
		}
	})
	n.until(t, "it serves", func(s status.Report) bool {
		return s.Ready && (mode == "off" || s.XDP.Active && len(s.XDP.Endpoints) >= 2)
	})
	return n
}

// stop stops the process, which has to end well.
func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.Stop(stopGrace); err != nil {
		t.Errorf("%v", err)
	} else if err := n.Err(); err != nil {
		t.Errorf("stopped, the node ended with %v", err)
	}
	n.http.CloseIdleConnections()
}

// kill kills the process.
func (n *node) kill() {
	n.Signal(syscall.SIGKILL)
	<-n.Done()
	n.http.CloseIdleConnections()
}

// until polls the status page until ok holds.
func (n *node) until(t *testing.T, what string, ok func(status.Report) bool) (s status.Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last error
	err := fleet.Poll(ctx, pollEvery, func() (bool, error) {
		select {
		case <-n.Done():
			return false, fmt.Errorf("the node ended: %w", n.Err())
		default:
		}
		s, last = n.report()
		return last == nil && ok(s), nil // it may have only just started
	})
	if err != nil {
		t.Fatalf("%s: %v, %v\n%s", what, err, last, n.Log(1<<13))
	}
	return s
}

// status asks for the state of the node.
func (n *node) status(t *testing.T) status.Report {
	t.Helper()
	return get[status.Report](t)(n.report())
}

func (n *node) report() (s status.Report, err error) {
	b, err := n.fetch("/status?format=json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// page returns a page of the node's HTTP server.
func (n *node) page(t *testing.T, path string) string {
	t.Helper()
	return string(get[[]byte](t)(n.fetch(path)))
}

func (n *node) fetch(path string) ([]byte, error) {
	resp, err := n.http.Get("http://" + netip.AddrPortFrom(node4.Addr(), fleet.HTTPPort).String() + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// counters are all counters of a node, by group and name, those of the kernel half as "xdp/reason".
type counters map[string]uint64

func (n *node) counters(t *testing.T) counters {
	t.Helper()
	c := counters{}
	s := n.status(t)
	for _, x := range s.Node {
		c[x.Group+"/"+x.Name] = x.Value
	}
	for _, x := range s.XDP.Counters {
		c["xdp/"+x.Reason] += x.Packets
	}
	for _, task := range s.Tasks {
		c["restarts"] += uint64(task.Restarts)
	}
	return c
}

// since returns how much each counter has grown.
func (c counters) since(old counters) counters {
	d := counters{}
	for name, v := range c {
		d[name] = v - old[name]
	}
	return d
}
