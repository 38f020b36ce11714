package gateway_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"kdht/appliance"
	"kdht/appliance/boxtest"
	"kdht/appliance/gateway"
	"kdht/bpf/netns"
)

var quiet = slog.New(slog.DiscardHandler)

// box is a node with its gateway.
type box struct {
	*boxtest.Box
	t    *testing.T
	url  string
	http *http.Client
}

// start runs a node on a loopback address of its own. values are keys and values of its configuration.
func start(t *testing.T, address, bootstrap string, values ...string) *box {
	t.Helper()
	return startIn(t, nil, "", address, bootstrap, values...)
}

// startIn runs a node in a network namespace, nil for that of the test, with its page at an address.
func startIn(t *testing.T, ns *netns.NS, web, address, bootstrap string, values ...string) *box {
	t.Helper()
	b := boxtest.Start(t, boxtest.Options{Extensions: []appliance.Extension{gateway.Extension()}, NS: ns, HTTP: web, Values: values}, address, bootstrap)
	return &box{b, t, b.URL, http.DefaultClient}
}

// fleet runs n nodes that know each other. values are keys and values of their configuration.
func fleet(t *testing.T, n int, values ...string) []*box {
	t.Helper()
	boxes := []*box{start(t, "127.0.2.1", "none", values...)}
	for i := 1; i < n; i++ {
		boxes = append(boxes, start(t, netip.AddrFrom4([4]byte{127, 0, 2, byte(i + 1)}).String(), boxes[0].UDP, values...))
	}
	for _, b := range boxes {
		b.Knows(t, min(n-1, 8))
	}
	return boxes
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
