package appliance_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"kdht/router/krpc"
)

// TestHotAcrossRestarts puts one version after the other of an item that the kernel half answers for, kills the node, and
// goes on with the next. Whoever asks after a put was acknowledged gets no older version, neither from the kernel half
// of the process that was killed nor from the next one's.
func TestHotAcrossRestarts(t *testing.T) {
	p := newPair(t)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	public := key.Public().(ed25519.PublicKey)
	target := krpc.MutableTarget(public, nil)
	c := dial(t, p.gen, p.addrs[0])
	seq := int64(0)
	put := func() {
		t.Helper()
		_, token := get(c, target, patience)
		seq++
		v := fmt.Appendf(nil, "i%de", seq)
		for range 100 { // a busy node refuses
			if exchange(c, &krpc.Message{
				Method: krpc.MethodPut, Token: token, V: v, K: public, Seq: seq, HasSeq: true, Sig: krpc.Sign(key, nil, seq, v),
			}, patience) != nil {
				return
			}
		}
		t.Fatalf("version %d is not acknowledged", seq)
	}
	check := func(c *net.UDPConn, patience time.Duration) {
		t.Helper()
		m := exchange(c, &krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}, patience)
		if m != nil && (m.Seq != seq || !bytes.Equal(m.V, fmt.Appendf(nil, "i%de", seq))) {
			t.Fatalf("version %d with value %q, but %d was acknowledged", m.Seq, m.V, seq)
		}
	}
	args := []string{"--xdp", "native", "--set", "xdp.lease=30s", "--set", "xdp.linger=30s"}
	for range 2 {
		running := serve(t, p.node, p.state, args...)
		for range 4 {
			put()
			check(c, patience)
		}
		hot := func() uint64 { return answeredBy(running, "hot_get") }
		before := hot()
		for deadline := time.Now().Add(20 * time.Second); hot() < before+20; {
			check(c, patience)
			if time.Now().After(deadline) {
				t.Fatal("the kernel half does not answer for what is asked often")
			}
		}
		if code := running.stop(syscall.SIGKILL); code == 0 {
			t.Fatal("it was not killed")
		}
		for range 5 { // of the kernel half, which goes on
			check(c, 100*time.Millisecond)
		}
	}
}

// answeredBy returns how many queries of a kind the kernel half has answered.
func answeredBy(p *process, query string) uint64 {
	for _, c := range p.report().XDP.Counters {
		if c.Reason == "answered" && c.Query == query {
			return c.Packets
		}
	}
	return 0
}
