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
	"testing"
	"time"

	"kdht/bpf/netns"
	"kdht/router/krpc"
)

// load is a set of clients that send ping and find_node in turn, each the next one once the last was answered or its
// time is up. Nothing is sent again.
type load struct {
	sent, answered, late, lost atomic.Int64
	wrong                      atomic.Pointer[string]

	stopping context.CancelFunc
	done     sync.WaitGroup
}

// patience is how long a client waits for an answer. Nothing takes that long but a machine with more to do than it can:
// a client that is kept from running finds that its time is up before it has looked at the answer. What takes longer
// than timely is counted.
const patience, timely = 10 * time.Second, time.Second

// startLoad starts clients for every address of a node, in a namespace. They stop at the end of the test at the latest.
func startLoad(t *testing.T, ns *netns.NS, perNode int, nodes ...netip.AddrPort) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stopping: cancel}
	for _, node := range nodes {
		for range perNode {
			c := dial(t, ns, node)
			l.done.Go(func() {
				for i := uint32(0); ctx.Err() == nil; i++ {
					l.ask(c, i)
				}
			})
		}
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.stopping()
	l.done.Wait()
}

// waitFor waits until so many more queries were answered or lost.
func (l *load) waitFor(t *testing.T, n int64) {
	t.Helper()
	waitForMore(t, n, "queries answered or lost", func() int64 { return l.answered.Load() + l.lost.Load() })
}

// waitForMore waits until a count has grown by n.
func waitForMore(t *testing.T, n int64, what string, count func() int64) {
	t.Helper()
	begin := count()
	for deadline := time.Now().Add(30 * time.Second); count() < begin+n; {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: %d more %s, want %d", count()-begin, what, n)
		}
		time.Sleep(time.Millisecond) // the clients work at their own pace
	}
}

// ask sends one query and waits for its answer.
func (l *load) ask(c *net.UDPConn, i uint32) {
	l.sent.Add(1)
	begin := time.Now()
	err := query(c, i, patience)
	if time.Since(begin) > timely {
		l.late.Add(1)
	}
	if err != "" {
		l.lost.Add(1)
		l.wrong.Store(&err)
		return
	}
	l.answered.Add(1)
}

// dial makes a socket in a namespace that sends to a node.
func dial(t *testing.T, ns *netns.NS, node netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	if err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(node))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// query sends a ping, or a find_node for odd i, and returns what is wrong with the answer, "" if nothing is.
func query(c *net.UDPConn, i uint32, patience time.Duration) string {
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, HasID: true, TID: binary.BigEndian.AppendUint32(nil, i)}
	copy(q.ID[:], "abcdefghij0123456789")
	if i%2 == 1 {
		q.Method, q.HasTarget = krpc.MethodFindNode, true
		binary.BigEndian.PutUint32(q.Target[:], i*2654435761)
	}
	b, err := q.Append(nil)
	if err != nil {
		return err.Error()
	}
	if _, err := c.Write(b); err != nil {
		return "write: " + err.Error()
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err.Error()
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return q.Method.String() + ": " + err.Error()
		}
		var m krpc.Message
		if err := krpc.Decode(buf[:n], &m); err != nil {
			return "answer: " + err.Error()
		}
		if !bytes.Equal(m.TID, q.TID) {
			continue // the late answer to an earlier one, or a query of the node's own
		}
		if m.Type != krpc.TypeResponse || !m.HasID || q.HasTarget && m.Nodes == nil && m.Nodes6 == nil {
			return fmt.Sprintf("not the answer to %v: %q", q.Method, buf[:n])
		}
		return ""
	}
}
