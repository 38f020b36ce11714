package appliance_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kdht/bpf/netns"
	"kdht/router/krpc"
)

// TestAcknowledgedIsHeld restarts the program, lingering and killed, while clients put items. What was acknowledged is
// held: the kernel half, whoever has attached it, must never answer a get for it as one for a key not held here.
func TestAcknowledgedIsHeld(t *testing.T) {
	p := newPair(t)
	args := []string{"--xdp", "native", "--set", "xdp.linger=30s", "--set", "xdp.lease=30s"}
	running := serve(t, p.node, p.state, args...)
	w := startWriters(t, p.gen, 3, p.addrs...)
	w.waitFor(t, 20)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		running.stop(s)
		running = serve(t, p.node, p.state, args...)
		if r := running.report(); !r.XDP.TakenOver || nic(r, "eth0").Mode != "native" {
			t.Errorf("after %v XDP is %+v, want it taken over in native mode", s, r.XDP)
		}
		w.waitFor(t, 20)
	}
	w.stop()
	if n := w.missed.Load(); n > 0 {
		t.Errorf("%d of %d items that were acknowledged were then denied: %s", n, w.held.Load()+n, *w.wrong.Load())
	}
	t.Logf("%d items acknowledged and found", w.held.Load())
	running.stop(syscall.SIGTERM)
	removePins(t, running)
}

// writers are clients that put items, each the next one once the last was acknowledged and asked for.
type writers struct {
	held, missed atomic.Int64
	wrong        atomic.Pointer[string]
	stopping     context.CancelFunc
	done         sync.WaitGroup
}

// startWriters starts clients for every address of a node, in a namespace. They stop at the end of the test at the latest.
func startWriters(t *testing.T, ns *netns.NS, perNode int, nodes ...netip.AddrPort) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{stopping: cancel}
	for i, node := range nodes {
		for j := range perNode {
			c := dial(t, ns, node)
			_, token := get(c, krpc.ID{}, patience)
			if token == nil {
				t.Fatalf("%v gives no write token", node)
			}
			w.done.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					w.write(ctx, c, token, value(i, j, n))
				}
			})
		}
	}
	t.Cleanup(w.stop)
	return w
}

// value is the nth value of a client, bencoded.
func value(node, client, n int) []byte {
	s := fmt.Sprintf("value %d of client %d-%d", n, node, client)
	return fmt.Appendf(nil, "%d:%s", len(s), s)
}

func (w *writers) stop() {
	w.stopping()
	w.done.Wait()
}

// waitFor waits until so many more items were found after they were put.
func (w *writers) waitFor(t *testing.T, n int64) {
	t.Helper()
	waitForMore(t, n, "items found or missed", func() int64 { return w.held.Load() + w.missed.Load() })
}

// again is how long a writer waits for an answer before it asks again: there are moments when nobody is there.
const again = 50 * time.Millisecond

// write puts a value until that is acknowledged, and gets it until that is answered.
func (w *writers) write(ctx context.Context, c *net.UDPConn, token, v []byte) {
	target := krpc.ImmutableTarget(v)
	for put := (krpc.Message{Method: krpc.MethodPut, Token: token, V: v}); exchange(c, &put, again) == nil; {
		if ctx.Err() != nil {
			return
		}
	}
	for ctx.Err() == nil {
		got, token := get(c, target, again)
		switch {
		case bytes.Equal(got, v):
			w.held.Add(1)
			return
		case token != nil:
			wrong := fmt.Sprintf("%s via %v at %v", v, c.RemoteAddr(), time.Now().Format(time.TimeOnly+".000"))
			w.wrong.Store(&wrong)
			w.missed.Add(1)
			return
		}
	}
}

// get asks for an item. The token is nil if nobody answers.
func get(c *net.UDPConn, target krpc.ID, patience time.Duration) (v, token []byte) {
	m := exchange(c, &krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}, patience)
	if m == nil {
		return nil, nil
	}
	return m.V, m.Token
}

// queries numbers the queries of all clients.
var queries atomic.Uint32

// exchange sends a query and returns the response, nil if there is none in time.
func exchange(c *net.UDPConn, q *krpc.Message, patience time.Duration) *krpc.Message {
	q.Type, q.HasID, q.TID = krpc.TypeQuery, true, binary.BigEndian.AppendUint32(nil, queries.Add(1))
	copy(q.ID[:], "abcdefghij0123456789")
	b, err := q.Append(nil)
	if err != nil {
		panic(err) // the test is wrong
	}
	deadline := time.Now().Add(patience)
	_, _ = c.Write(b) // an error is that of the query before: nobody was there
	_ = c.SetReadDeadline(deadline)
	for buf := make([]byte, 2048); time.Now().Before(deadline); {
		n, err := c.Read(buf)
		if err != nil {
			continue // until the deadline: somebody may come
		}
		var m krpc.Message
		if krpc.Decode(buf[:n], &m) == nil && m.Type == krpc.TypeResponse && bytes.Equal(m.TID, q.TID) {
			return &m
		}
	}
	return nil
}
