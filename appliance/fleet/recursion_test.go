package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/bpf/testenv"
	"kdht/router"
	"kdht/router/krpc"
)

// TestRecursion stores items at random nodes of a fleet, and gets them with one datagram each from others, which the
// kernel halves of those carry to where the items are.
func TestRecursion(t *testing.T) {
	testenv.NeedXDP(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	const nodes, items, askers = 24, 40, 4
	f, err := fleet.New(ctx, fleet.Options{Nodes: nodes, Dir: t.TempDir(), Args: []string{"--set", "recursion.allow=198.18.0.0/15,2001:db8::/32"}})
	must(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	host := addHost(t, f, "client")
	must(t, host.FullChecksums())
	var known []map[krpc.ID][]byte // the items of each family
	for _, family := range []struct {
		name string
		addr func(*fleet.Node) netip.AddrPort
	}{{"IPv4", addr4}, {"IPv6", addr6}} {
		t.Run(family.name, func(t *testing.T) {
			c := newPlainClient(t, host, family.addr(f.Nodes[0]).Addr().Is6())
			targets := map[krpc.ID][]byte{}
			for i := range items {
				text := fmt.Sprintf("item %d over %s", i, family.name)
				v := fmt.Appendf(nil, "%d:%s", len(text), text)
				r := c.ask(family.addr(f.Nodes[i%nodes]), krpc.Message{Method: krpc.MethodPut, V: v})
				if r.Type != krpc.TypeResponse {
					t.Fatalf("put: %+v", r.Err)
				}
				targets[krpc.ImmutableTarget(v)] = v
			}
			known = append(known, targets)
			before := recursionCounts(ctx, t, f.Nodes)
			var took []time.Duration
			for i := range askers {
				node := f.Nodes[(i*7+3)%nodes]
				for target, v := range targets {
					begin := time.Now()
					r := c.ask(family.addr(node), krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true})
					took = append(took, time.Since(begin))
					if !bytes.Equal(r.V, v) {
						t.Errorf("%s: %x is %q, want %q", node.Name(), target, r.V, v)
					}
				}
			}
			slices.Sort(took)
			var now map[string]uint64
			waiting, stop := context.WithTimeout(ctx, 10*time.Second)
			defer stop()
			// The other paths of one that was answered may still wait for theirs.
			_ = fleet.Poll(waiting, 100*time.Millisecond, func() (bool, error) {
				now = recursionCounts(ctx, t, f.Nodes)
				for k, n := range before {
					now[k] -= n
				}
				return now["replied"]+now["late"] == now["recursion_begun"], nil
			}) // or else it is said below
			t.Logf("%d gets, median %v, 99 %% within %v; %v", len(took), took[len(took)/2], took[len(took)*99/100], now)
			if n := uint64(items * askers); now["recursion_begun"] < n/4 || now["replied"]+now["late"] != now["recursion_begun"] || now["late"] > n/10 {
				t.Errorf("the kernel halves began %d recursions, of which %d ended with a reply and %d were late", now["recursion_begun"], now["replied"], now["late"])
			}
		})
	}

	t.Run("peers", func(t *testing.T) { foundPeers(ctx, t, f, host) })

	// What the kernel half asks, then, may say nothing: another path goes on. Where all have ended but that one, user space takes over.
	t.Run("a third of the nodes gone", func(t *testing.T) {
		node := f.Nodes[nodes-1]
		gone, ids := map[*fleet.Node]bool{}, idsOf(ctx, t, f.Nodes)
		for target := range known[0] {
			// Those that the node asks first for what it has not.
			if order := byDistance(ids, target); len(gone) < nodes/3 && slices.Index(order, node) >= 8 && !gone[order[0]] {
				gone[order[0]] = true
				must(t, order[0].Host.NS.IP("link", "set", "eth0", "down"))
			}
		}
		c := newPlainClient(t, host, false)
		longest := time.Duration(0)
		for target, v := range known[0] {
			begin := time.Now()
			r := c.ask(node.Addr4, krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true})
			longest = max(longest, time.Since(begin))
			if !bytes.Equal(r.V, v) {
				t.Errorf("%x is %q, want %q", target, r.V, v)
			}
		}
		for i := range 20 {
			begin := time.Now()
			r := c.ask(node.Addr4, krpc.Message{Method: krpc.MethodGet, Target: krpc.ID{byte(i * 12), 1}, HasTarget: true})
			longest = max(longest, time.Since(begin))
			if r.V != nil || !r.HasRecursive {
				t.Errorf("what was never put: %+v", r)
			}
		}
		now := recursionCounts(ctx, t, []*fleet.Node{node})
		t.Logf("longest %v; %v", longest, now)
		if longest > 5*time.Second {
			t.Errorf("an answer took %v", longest)
		}
		if now["late"] == 0 {
			t.Error("nothing was late, so nothing was taken over")
		}
	})
}

// foundPeers announces peers at the nodes that are closest to an infohash, and asks another one for them: once it has found them its kernel
// half answers, with the same peers, until there is another one at that node.
func foundPeers(ctx context.Context, t *testing.T, f *fleet.Fleet, host *fleet.Host) {
	infohash := krpc.ID{0x5a, 1}
	ids := idsOf(ctx, t, f.Nodes)
	order := byDistance(ids, infohash)
	node := order[len(order)-1]
	four, six := newPlainClient(t, host, false), newPlainClient(t, host, true)
	find := krpc.Message{Method: krpc.MethodGetPeers, InfoHash: infohash, HasInfoHash: true}
	// The client is not on the node's host, so its peer is stored at that node alone.
	announce := func(c *plainClient, to netip.AddrPort, port uint16) {
		t.Helper()
		r := c.ask(to, krpc.Message{Method: krpc.MethodAnnouncePeer, InfoHash: infohash, HasInfoHash: true, Port: port, HasPort: true})
		if r.Type != krpc.TypeResponse || r.Stored != 1 {
			t.Fatalf("announce to %v: %+v", to, r)
		}
	}
	for _, n := range order[:8] {
		announce(four, n.Addr4, 4001)
		announce(four, n.Addr4, 4002)
		announce(six, n.Addr6, 4006)
	}
	hot := func() uint64 {
		r, err := node.Status(ctx)
		must(t, err)
		for _, c := range r.XDP.Counters {
			if c.Reason == "answered" && c.Query == "hot_get_peers" {
				return c.Packets
			}
		}
		return 0
	}
	both := find
	both.Want = krpc.WantN4 | krpc.WantN6
	for _, ask := range []struct {
		what   string
		c      *plainClient
		to     netip.AddrPort
		q      krpc.Message
		peers  int
		kernel bool
	}{
		{"IPv4", four, node.Addr4, find, 2, true},
		{"IPv6", six, node.Addr6, find, 1, true},
		{"IPv4, peers of both families", four, node.Addr4, both, 3, false},
	} {
		peers := func() []netip.AddrPort {
			return slices.SortedFunc(krpc.Peers(ask.c.ask(ask.to, ask.q).Values), netip.AddrPort.Compare)
		}
		want := peers()
		if len(want) != ask.peers {
			t.Fatalf("%s: peers %v", ask.what, want)
		}
		before := hot()
		for range 20 {
			if got := peers(); !slices.Equal(got, want) {
				t.Fatalf("%s: peers %v, were %v", ask.what, got, want)
			}
		}
		// The first may come before the kernel half has been given them, and some when they have to be looked up again.
		if n := hot() - before; ask.kernel && n < 15 || !ask.kernel && n > 0 {
			t.Errorf("%s: of 20 queries the kernel half answered %d", ask.what, n)
		}
	}
	announce(four, node.Addr4, 4003)
	for range 20 {
		if got := slices.Collect(krpc.Peers(four.ask(node.Addr4, find).Values)); len(got) != 3 {
			t.Fatalf("after one was announced there: %v", got)
		}
	}
}

// idsOf returns the IPv4 IDs of nodes.
func idsOf(ctx context.Context, t *testing.T, nodes []*fleet.Node) map[*fleet.Node]krpc.ID {
	t.Helper()
	ids := map[*fleet.Node]krpc.ID{}
	for _, n := range nodes {
		r, err := n.Status(ctx)
		must(t, err)
		for _, family := range r.Families {
			if family.Family == router.IPv4.String() {
				ids[n], err = krpc.ParseID(family.ID)
				must(t, err)
			}
		}
	}
	return ids
}

// byDistance returns nodes in the order of their IDs' distance to a target.
func byDistance(ids map[*fleet.Node]krpc.ID, target krpc.ID) []*fleet.Node {
	return slices.SortedFunc(maps.Keys(ids), func(a, b *fleet.Node) int {
		if router.Closer(target, ids[a], ids[b]) {
			return -1
		}
		return 1
	})
}

// recursionCounts adds up what the kernel halves have done for clients.
func recursionCounts(ctx context.Context, t *testing.T, nodes []*fleet.Node) map[string]uint64 {
	t.Helper()
	sum := map[string]uint64{}
	for _, n := range nodes {
		r, err := n.Status(ctx)
		must(t, err)
		for _, c := range r.XDP.Counters {
			switch c.Reason {
			case "recursion_begun", "recursion_joined", "hop_followed", "hop_answer", "hop_no_closer", "hop_late", "hop_taken", "hop_ended", "hop_error", "recursion_paced", "hop_paced", "no_route", "no_neighbour", "held", "recursion_off", "no_room", "hop_other_source":
				if c.Packets > 0 {
					sum[c.Reason] += c.Packets
				}
			}
		}
		if k := r.XDP.Recursion; k != nil {
			sum["replied"] += k.Replied
			sum["late"] += k.Late
			for hops, n := range k.Hops {
				if n > 0 {
					sum[fmt.Sprintf("%d hops", hops)] += n
				}
			}
		}
	}
	return sum
}

// plainClient knows nothing of DHTs: it sends one datagram and waits for one.
type plainClient struct {
	t    *testing.T
	conn *net.UDPConn
	n    int
}

func newPlainClient(t *testing.T, host *fleet.Host, v6 bool) *plainClient {
	t.Helper()
	c := &plainClient{t: t}
	addr := host.IPv4
	if v6 {
		addr = host.IPv6
	}
	must(t, host.NS.Do(func() (err error) {
		c.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	}))
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// ask asks for recursion and returns the answer.
func (c *plainClient) ask(node netip.AddrPort, q krpc.Message) *krpc.Message {
	c.t.Helper()
	r, err := c.try(node, q)
	must(c.t, err)
	return r
}

// get gets an item, from any goroutine.
func (c *plainClient) get(node netip.AddrPort, target krpc.ID) (v []byte, err error) {
	r, err := c.try(node, krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true})
	if err != nil {
		return nil, err
	}
	return r.V, nil
}

// try is ask for callers that go on after a failure.
func (c *plainClient) try(node netip.AddrPort, q krpc.Message) (*krpc.Message, error) {
	c.n++
	q.Type, q.TID, q.Recursive = krpc.TypeQuery, fmt.Appendf(nil, "%d", c.n), true
	q.ID, q.HasID, q.ReadOnly = krpc.ID{1}, true, true
	b, err := q.Append(nil)
	if err != nil {
		return nil, err
	}
	if _, err := c.conn.WriteToUDPAddrPort(b, node); err != nil {
		return nil, err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(6 * time.Second)); err != nil {
		return nil, err
	}
	in := make([]byte, 2048)
	for {
		n, from, err := c.conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return nil, fmt.Errorf("no answer from %v to %q: %w", node, b, err)
		}
		var m krpc.Message
		if krpc.Decode(in[:n], &m) != nil || !bytes.Equal(m.TID, q.TID) || from.Addr().Unmap() != node.Addr() {
			continue
		}
		return &m, nil
	}
}
