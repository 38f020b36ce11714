package conformance_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"kdht/router/krpc"
)

// client is a socket that talks to one address of a node. Queries that the node sends to it are ignored.
type client struct {
	conn  *net.UDPConn
	local netip.AddrPort
	marks int
	buf   [1 << 16]byte
}

// dial makes a client at an address of the peer's namespace, with any port if that is 0.
func (r *rig) dial(t testing.TB, local netip.AddrPort, to netip.AddrPort) *client {
	t.Helper()
	c := get[*client](t)(r.dialErr(local, to))
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

func (r *rig) dialErr(local netip.AddrPort, to netip.AddrPort) (*client, error) {
	c := &client{}
	err := r.peer.Do(func() (err error) {
		c.conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return nil, err
	}
	c.local = c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return c, nil
}

// read returns the next response or error from the node.
func (c *client) read(deadline time.Time) ([]byte, *krpc.Message, error) {
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return nil, nil, err
	}
	for {
		n, err := c.conn.Read(c.buf[:])
		if err != nil {
			return nil, nil, err
		}
		b, m := append([]byte(nil), c.buf[:n]...), new(krpc.Message)
		if err := krpc.Decode(b, m); err != nil {
			return nil, nil, fmt.Errorf("the node sent %q: %w", b, err)
		}
		if m.Type != krpc.TypeQuery {
			return b, m, nil
		}
	}
}

// answer sends a datagram that has to be answered and returns the answer.
func (c *client) answer(b []byte) ([]byte, *krpc.Message, error) {
	if _, err := c.conn.Write(b); err != nil {
		return nil, nil, err
	}
	answer, m, err := c.read(time.Now().Add(patience))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("no answer")
	}
	return answer, m, err
}

// silence makes sure that nothing answers what was sent so far and not answered yet. It sends a query that user
// space has to answer: it is not canonical, so the kernel half passes it up, where it comes after everything before it.
func (c *client) silence() error {
	c.marks++
	tid := fmt.Sprintf("mark%d", c.marks)
	_, m, err := c.answer(mark(tid))
	if err != nil {
		return err
	}
	if string(m.TID) != tid || m.Type != krpc.TypeResponse {
		return fmt.Errorf("there was an answer: %s", describe(m))
	}
	return nil
}

// mark is a find_node with unsorted keys.
func mark(tid string) []byte {
	return []byte("d1:y1:q1:t" + str(tid) + "1:q9:find_node1:ad2:id20:" + asker + "6:target20:" + asker + "ee")
}

// describe puts an answer into words.
func describe(m *krpc.Message) string {
	switch {
	case m == nil:
		return "silence"
	case m.Type == krpc.TypeError:
		return fmt.Sprintf("error %d %q", m.Err.Code, m.Err.Text)
	}
	return fmt.Sprintf("a response with t %q", m.TID)
}
