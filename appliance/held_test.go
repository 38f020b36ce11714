package appliance_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"kdht/appliance/status"
	"kdht/router/krpc"
)

// TestHeldOverflow fills a node, restarts it with quotas that are lower than what it holds, for which its kernel half has
// too little room, and then with quotas that suffice. It says so as long as it lasts, and whatever it holds is found.
func TestHeldOverflow(t *testing.T) {
	p := newPair(t)
	const items, room = 1100, 1024
	c := dial(t, p.gen, p.addrs[0])
	free := krpc.ImmutableTarget([]byte("4:free"))
	values := make([][]byte, items)
	for i := range values {
		values[i] = value(0, 0, i)
	}
	var running *process
	check := func(what string, known, missing, wantRoom int) status.Report {
		t.Helper()
		r := running.report()
		h := r.XDP.Held
		if h.Known != known || h.Missing != missing || h.Room != wantRoom || (h.Since != nil) != (missing > 0) {
			t.Errorf("%s: %+v, want %d known, %d missing, room for %d", what, h, known, missing, wantRoom)
		}
		said := strings.Contains(strings.Join(r.Problems, "\n"), "Every get and get_peers goes up")
		if said != (missing > 0) {
			t.Errorf("%s: problems are %q", what, r.Problems)
		}
		before := passed(r, "held_overflow")
		if v, token := get(c, free, patience); v != nil || token == nil {
			t.Errorf("%s: a get for what is not held here gives %q with token %x", what, v, token)
		}
		if up := passed(running.report(), "held_overflow") > before; up != (missing > 0) {
			t.Errorf("%s: a get for what is not held here went up: %v", what, up)
		}
		return r
	}

	running = serve(t, p.node, p.state, "--xdp", "native")
	check("empty", 0, 0, 1<<17) // 100,000 items and 20,000 infohashes
	putAll(t, p, values)
	check("filled", items, 0, 1<<17)
	if code := running.stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	running = serve(t, p.node, p.state, "--xdp", "native", "--set", "store.maxItems=1", "--set", "store.maxInfohashes=1")
	check("low quotas", room, items-room, room)
	for _, v := range values {
		if got, _ := get(c, krpc.ImmutableTarget(v), patience); !bytes.Equal(got, v) {
			t.Fatalf("an item that is held here: got %q, want %q", got, v)
		}
	}
	if code := running.stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	running = serve(t, p.node, p.state, "--xdp", "native")
	check("sufficient quotas again", items, 0, 1<<17)
}

// putAll puts values, until all are acknowledged.
func putAll(t *testing.T, p pair, values [][]byte) {
	t.Helper()
	var next atomic.Int64
	var work sync.WaitGroup
	for range 32 {
		c := dial(t, p.gen, p.addrs[0])
		work.Go(func() {
			_, token := get(c, krpc.ID{}, patience)
			for i := next.Add(1) - 1; i < int64(len(values)); i = next.Add(1) - 1 {
				putOne(c, token, values[i])
			}
		})
	}
	work.Wait()
}

// putOne puts a value until that is acknowledged: a busy node refuses.
func putOne(c *net.UDPConn, token, v []byte) {
	for range 100 {
		if exchange(c, &krpc.Message{Method: krpc.MethodPut, Token: token, V: v}, patience) != nil {
			return
		}
	}
}

// passed returns how many datagrams have left the kernel half for a reason.
func passed(r status.Report, reason string) uint64 {
	for _, c := range r.XDP.Counters {
		if c.Reason == reason {
			return c.Packets
		}
	}
	return 0
}
