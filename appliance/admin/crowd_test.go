package admin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tailscale.com/tsnet"

	"kdht/appliance"
)

// crowded is more connections than the queue of a node's network stack has packets.
const crowded = 600

// crowd has a box hold connections to another node of the tailnet.
func (p *peer) crowd(b *box) {
	p.t.Helper()
	l, err := p.server.Listen("tcp", ":9")
	if err != nil {
		p.t.Fatal(err)
	}
	go func() {
		for {
			if _, err := l.Accept(); err != nil { // what is accepted stays as long as the node
				return
			}
		}
	}()
	dial := func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
		defer cancel()
		_, err := b.host.Dial(ctx, "tcp", net.JoinHostPort(p.addrs[0].String(), "9"))
		return err == nil
	}
	eventually(p.t, dial, func() string { return "the box does not know the peer" })
	var wg sync.WaitGroup
	var held atomic.Int32
	for range 25 {
		wg.Go(func() {
			for range crowded / 25 {
				if dial() {
					held.Add(1)
				}
			}
		})
	}
	if wg.Wait(); held.Load() < crowded {
		p.t.Fatalf("the box holds %d connections, want %d", held.Load(), crowded)
	}
}

// TestManyConnectionsEnd stops a box with so many connections in the tailnet that tsnet alone would wait for ever.
func TestManyConnectionsEnd(t *testing.T) {
	t.Parallel()
	n := newTailnet(t, nil)
	b := start(t, options{values: []string{"tailnet.mode", "on", "tailnet.controlURL", n.url, "tailnet.hostname", "box"}})
	b.state("connected")
	p := n.peer("other")
	p.crowd(b)
	leave(p.server) // nobody answers
	stopping := time.Now()
	b.stop()
	if d := time.Since(stopping); d > 8*time.Second { // tsnet gives itself 5
		t.Errorf("the box took %s to stop", d)
	}
}

// TestNodeThatDoesNotEnd has the node in the tailnet get stuck: the DHT goes on in the same process, there is another node, the same in the
// tailnet, and the box stops when it is told to.
func TestNodeThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	n := newTailnet(t, nil)
	nodes := make(chan *tsnet.Server, 10)
	o := options{values: []string{"tailnet.mode", "on", "tailnet.controlURL", n.url, "tailnet.hostname", "box", "tailnet.viewers", "user-2@fake-control.example.net"}}
	o.admin.OnNode(func(s *tsnet.Server) { nodes <- s })
	o.admin.Loud()
	b := start(t, o)
	b.state("connected")
	p := n.peer("other")
	p.crowd(b)
	was := b.host.Report().Tailnet
	ended := make(chan struct{})
	node := <-nodes
	go func() { // its listeners are closed, and the plane wants to begin anew
		defer close(ended)
		_ = node.Close()
	}()
	select {
	case <-nodes:
	case <-time.After(patience):
		t.Fatalf("there is no other node: %+v", b.host.Report().Tailnet)
	}
	b.ready() // as it was, or has been all the time
	if r := b.state("connected"); !slices.Equal(r.Addrs, was.Addrs) {
		t.Errorf("the box is at %v, and was at %v", r.Addrs, was.Addrs)
	}
	p.box = was.Addrs[0]
	p.rolesAre("viewer")
	select {
	case <-ended:
		t.Fatal("tsnet ends, however many connections there are: hush and cut are not needed any more, nor is this test")
	default:
	}
	select {
	case err := <-b.served:
		t.Errorf("the node has stopped: %v", err)
	default:
	}
	stopping := time.Now()
	b.stop()
	if d := time.Since(stopping); d > 5*time.Second {
		t.Errorf("the box took %s to stop", d)
	}
}

// TestCrowdInTheTailnet serves those who may do something while a stranger in the tailnet holds as many connections as he gets, lets
// an upload through that was begun before, tells two clients on one node apart, and stops in time.
func TestCrowdInTheTailnet(t *testing.T) {
	n := newTailnet(t, nil)
	begun := make(chan struct{}, 1)
	b := start(t, options{
		values: []string{"tailnet.mode", "on", "tailnet.controlURL", n.url, "tailnet.hostname", "box", "tailnet.updaters", "user-2@fake-control.example.net"},
		more: []appliance.Extension{func(h *appliance.Host) error {
			h.Handle("PUT /update/root", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				_, _ = io.Copy(w, r.Body)
			}))
			h.Handle("POST /update/switch", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				x := appliance.ConnectionOf(r.Context())
				_, _ = fmt.Fprintf(w, "%p %t", x, x.Open())
			}))
			return nil
		}},
	})
	b.state("connected")
	updater, stranger := n.peer("updater"), n.peer("stranger")
	updater.box = b.host.Report().Tailnet.Addrs[0]
	updater.rolesAre("viewer, updater")

	body, in := io.Pipe()
	uploaded := make(chan answer, 1)
	go func() {
		a, err := updater.do("PUT", "/update/root", body)
		if err != nil {
			a.body = err.Error()
		}
		uploaded <- a
	}()
	if _, err := io.WriteString(in, "first, "); err != nil {
		t.Fatal(err)
	}
	select {
	case <-begun:
	case a := <-uploaded:
		t.Fatalf("the upload: %d %s", a.status, a.body)
	}

	// The stranger comes again whenever he is thrown out.
	ctx, cancel := context.WithCancel(t.Context())
	var came atomic.Int32
	const crowd = 150
	ended := make(chan struct{}, crowd)
	for range crowd {
		go func() {
			defer func() { ended <- struct{}{} }()
			for first := true; ctx.Err() == nil; first = false {
				c, err := stranger.server.Dial(ctx, "tcp", net.JoinHostPort(updater.box, "80"))
				if first {
					came.Add(1)
				}
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: box\r\n\r\n")
				_, _ = io.Copy(io.Discard, c) // until it ends
				stop()
				_ = c.Close()
			}
		}()
	}
	disperse := sync.OnceFunc(func() {
		cancel()
		patience := time.After(patience) // a dial of tsnet need not end while its node does
		for range crowd {
			select {
			case <-ended:
			case <-patience:
				return
			}
		}
	})
	defer disperse()
	eventually(t, func() bool { return came.Load() == crowd }, func() string { return "the stranger did not come" })

	ask := func(client *http.Client) string {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the stranger's connections last longer
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "POST", "http://"+updater.box+"/update/switch", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("the stranger keeps the updater out: %v", err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasSuffix(string(got), " true") {
			t.Errorf("%s, %v", got, err)
		}
		return string(got)
	}
	one, two := updater.server.HTTPClient(), updater.server.HTTPClient()
	for range 3 {
		if a, b := ask(one), ask(two); a == b {
			t.Errorf("two clients on one node are not told apart: %s", a)
		}
	}

	if _, err := io.WriteString(in, "last"); err != nil {
		t.Error(err)
	}
	_ = in.Close()
	if a := <-uploaded; a.status != 200 || a.body != "first, last" {
		t.Errorf("the upload: %d %s", a.status, a.body)
	}

	leave(stranger.server) // so that nobody answers, where the box closes what the crowd has left
	disperse()
	stopping := time.Now()
	b.stop()
	if d := time.Since(stopping); d > appliance.StopTimeout+5*time.Second { // the plane's and the rest's
		t.Errorf("the box took %s to stop", d)
	}
}
