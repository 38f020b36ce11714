package router_test

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// recursion is a configuration that allows clients at simulated addresses of nodes.
var recursion = router.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}}

// answerTime is when a client has its answer, the way there and back included.
const answerTime = 5 * time.Second

// rdClient has no DHT logic: it sends datagrams and waits for others.
type rdClient struct {
	t    *testing.T
	net  *simNet
	conn *simConn
	to   netip.AddrPort
	n    int
}

// client makes one whose own datagrams are never lost.
func (s *simNet) client(t *testing.T, at, to netip.AddrPort) *rdClient {
	t.Helper()
	c := &rdClient{t: t, net: s, conn: s.listen(at), to: to}
	s.mu.Lock()
	s.sure[at] = true
	s.mu.Unlock()
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// datagram encodes a query.
func (c *rdClient) datagram(m krpc.Message) []byte {
	c.t.Helper()
	c.n++
	m.Type, m.TID, m.HasID, m.ReadOnly = krpc.TypeQuery, fmt.Appendf(nil, "%d", c.n), true, true
	b, err := m.Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *rdClient) send(b []byte) { c.net.send(c.conn, c.to, b) }

// receive returns the next datagram that comes within a while, and how long it took; nil if none does.
func (c *rdClient) receive(wait time.Duration) (*krpc.Message, time.Duration) {
	c.t.Helper()
	begun := time.Now()
	select {
	case p := <-c.conn.inbox:
		m := new(krpc.Message)
		if err := krpc.Decode(p.Data, m); err != nil {
			c.t.Fatalf("%q: %v", p.Data, err)
		}
		if m.V == nil && len(p.Data) > krpc.MaxPayload {
			c.t.Errorf("an answer of %d bytes", len(p.Data))
		}
		if p.Addr != c.to {
			c.t.Errorf("answer from %v, not %v", p.Addr, c.to)
		}
		return m, time.Since(begun)
	case <-time.After(wait):
		return nil, wait
	}
}

// ask sends one datagram and expects one, in time.
func (c *rdClient) ask(m krpc.Message) *krpc.Message {
	c.t.Helper()
	m.Recursive = true
	b := c.datagram(m)
	c.send(b)
	r, _ := c.receive(answerTime)
	if r == nil {
		c.t.Fatalf("no answer to %q", b)
	}
	if string(r.TID) != fmt.Sprint(c.n) || r.IP != c.conn.local || string(r.Version) != krpc.Version {
		c.t.Errorf("the answer to query %d is %s", c.n, brief(r))
	}
	return r
}

// counted returns a counter of recursion.
func counted(n *simNode, name string) uint64 {
	for _, c := range n.Stats().Counters {
		if c.Group == "recursion" && c.Name == name {
			return c.Value
		}
	}
	panic("no counter " + name)
}

// brief shows what matters of an answer.
func brief(m *krpc.Message) string {
	if m == nil {
		return "nothing"
	}
	return fmt.Sprintf("%v rd %t/%t v %q seq %d/%t stored %d, %d+%d nodes, %d bytes of values, error %v", m.Type, m.HasRecursive, m.Recursive,
		m.V, m.Seq, m.HasSeq, m.Stored, len(m.Nodes)/26, len(m.Nodes6)/38, len(m.Values), m.Err)
}

// signedItem is signed with its target.
func signedItem(key ed25519.PrivateKey, salt, v string, seq int64) router.Item {
	it := signed(key, salt, v, seq)
	it.Target = krpc.MutableTarget(it.K[:], it.Salt)
	return it
}
