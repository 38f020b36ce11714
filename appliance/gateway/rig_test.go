package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/gateway"
	"kdht/bpf/netns"
	"kdht/config"
)

var quiet = slog.New(slog.DiscardHandler)

// box is a node with its gateway.
type box struct {
	t    *testing.T
	url  string
	udp  string
	host *appliance.Host
	stop func()
	http *http.Client
}

// start runs a node on a loopback address of its own. values are keys and values of its configuration.
func start(t *testing.T, address string, bootstrap string, values ...string) *box {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return startIn(t, nil, l.Addr().String(), address, bootstrap, values...)
}

// startIn runs a node in a network namespace, nil for that of the test.
func startIn(t *testing.T, ns *netns.NS, web, address, bootstrap string, values ...string) *box {
	t.Helper()
	b := &box{t: t, url: "http://" + web, http: http.DefaultClient}
	c := config.New()
	for i, all := 0, append([]string{"state", t.TempDir(), "http", web, "network", "private", "discovery", "off",
		"bootstrap", bootstrap, "xdp.mode", "off"}, values...); i < len(all); i += 2 {
		if err := c.Set(all[i], all[i], strings.Split(all[i+1], ",")...); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(address), 0)}
	ctx, cancel := context.WithCancel(context.Background())
	hosts, served := make(chan *appliance.Host, 1), make(chan error, 1)
	go func() {
		serve := func() error {
			return appliance.Serve(ctx, cfg, quiet, gateway.Extension(), func(h *appliance.Host) error {
				hosts <- h
				return nil
			})
		}
		if ns != nil {
			served <- ns.Do(serve)
			return
		}
		served <- serve()
	}()
	select {
	case b.host = <-hosts:
	case err := <-served:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(b.stop)
	b.udp = b.host.Node.Stats().Families[0].Listen[0].String()
	select {
	case <-b.host.Node.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the node is not ready")
	}
	return b
}

// fleet runs n nodes that know each other. values are keys and values of their configuration.
func fleet(t *testing.T, n int, values ...string) []*box {
	t.Helper()
	boxes := []*box{start(t, "127.0.2.1", "none", values...)}
	for i := 1; i < n; i++ {
		boxes = append(boxes, start(t, netip.AddrFrom4([4]byte{127, 0, 2, byte(i + 1)}).String(), boxes[0].udp, values...))
	}
	for _, b := range boxes {
		eventually(t, "the nodes do not know each other", func() bool { return b.host.Node.Stats().Families[0].Good >= min(n-1, 8) })
	}
	return boxes
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what)
		}
	}
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   string
}

// problem reads a problem document.
func (a answer) problem(t *testing.T) (p struct {
	Code, Detail, Title string
	Status, KRPC        int
	Seq                 *int64
}) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("%d, %s: %s", a.code, got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != a.code || p.Title != http.StatusText(a.code) {
		t.Errorf("status %d, problem %+v", a.code, p)
	}
	return p
}

// is checks status and code of a problem.
func (a answer) is(t *testing.T, status int, code string) {
	t.Helper()
	if p := a.problem(t); a.code != status || p.Code != code {
		t.Errorf("%d %s, want %d %s: %s", a.code, p.Code, status, code, p.Detail)
	}
}

// ok checks the status, and reads the document into x unless that is nil.
func (a answer) ok(t *testing.T, status int, x any) {
	t.Helper()
	if a.code != status {
		t.Fatalf("%d, want %d: %s", a.code, status, a.body)
	}
	if x == nil {
		return
	}
	if err := json.Unmarshal([]byte(a.body), x); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// do sends a request; header are names and values. What is sent and comes back must be as the OpenAPI document says.
func (b *box) do(method, path, body string, header ...string) answer {
	b.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, b.url+path, in)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	return send(b.t, b.http, req, []byte(body))
}

// send sends a request and compares the answer with the OpenAPI document.
func send(t *testing.T, c *http.Client, req *http.Request, body []byte) answer {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := conforms(req, body, res, got); err != nil {
		t.Errorf("%s %s: %v\n%s", req.Method, req.URL.Path, err, got)
	}
	return answer{res.StatusCode, res.Header, string(bytes.Clone(got))}
}
