package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/bpf/testenv"
	"kdht/router"
	"kdht/router/krpc"
)

// TestPacedRecursion has clients of one node get a thousand items within some seconds, of which the same contact is the
// closest that the node knows. No other node is sent as much as makes libtorrent ignore the sender, 50 datagrams within 10
// seconds, whatever half of the node sends; and every client gets the item.
func TestPacedRecursion(t *testing.T) {
	testenv.NeedXDP(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	f, err := fleet.New(ctx, fleet.Options{Nodes: 1, Dir: t.TempDir(), Args: []string{
		"--set", "network=private", "--set", "limits.queriesPerNode=2.8", "--set", "recursion.allow=198.18.0.0/15,2001:db8::/32", "--set", "limits.exempt=198.18.0.0/15",
	}})
	must(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	node := f.Nodes[0]
	r, err := node.Status(ctx)
	must(t, err)
	self, err := hex.DecodeString(r.Families[0].ID)
	must(t, err)

	// The items are in a part of the ID space that begins with the opposite of the node's first bit. Of this part it knows 8
	// nodes, one of which is closer to the items than the others, and 24 nodes nearby; those know 64 that have the items.
	s := newSwarm(t, f)
	prefix := [2]byte{^self[0]&0x80 | self[0]&0x70, 0}
	for i := range 64 {
		s.add(krpc.ID{prefix[0], byte(i << 2), 1}, true)
	}
	closest := s.add(krpc.ID{prefix[0], 0, 0xff}, false)
	for i := range 7 {
		s.add(krpc.ID{prefix[0] | 8 | byte(i), 7}, false)
	}
	for i := range 24 {
		s.add(krpc.ID{prefix[0] ^ 0x10<<(i%3), byte(i)}, false)
	}
	const items = 1000
	values := s.makeItems(items, prefix[0])
	s.introduce(ctx, node)

	var targets []krpc.ID
	for target := range values {
		targets = append(targets, target)
	}
	// A client that speaks IPv6, of which the node knows nobody.
	other := newPlainClient(t, addHost(t, f, "other"), true)
	if r := other.ask(node.Addr6, krpc.Message{Method: krpc.MethodGet, Target: targets[0], HasTarget: true}); !bytes.Equal(r.V, values[targets[0]]) {
		t.Errorf("over IPv6: %q, want %q", r.V, values[targets[0]])
	}
	if now := recursionCounts(ctx, t, f.Nodes); now["recursion_begun"] != 1 || now["replied"] != 1 {
		t.Errorf("the kernel half has no part in it: %v", now)
	}

	work := make(chan krpc.ID, items)
	for _, target := range targets[1:] {
		work <- target
	}
	close(work)
	var clients sync.WaitGroup
	begin := time.Now()
	for i := range 4 {
		host := addHost(t, f, fmt.Sprintf("client%d", i))
		for range 8 {
			c := newPlainClient(t, host, false)
			clients.Go(func() {
				for target := range work {
					begin := time.Now()
					v, err := c.get(node.Addr4, target)
					if took := time.Since(begin); err != nil || !bytes.Equal(v, values[target]) || took > 5*time.Second {
						t.Errorf("%x after %v: %q (%v), want %q", target[:], took, v, err, values[target])
					}
				}
			})
		}
	}
	clients.Wait()
	took := time.Since(begin)
	now := recursionCounts(ctx, t, f.Nodes)
	most, all := 0, 0
	for _, n := range s.nodes {
		most = max(most, n.most(10*time.Second))
		all += len(n.heard)
	}
	t.Logf("%d items in %v; %d queries, at most %d to one node within 10 s, %d of them to the closest; %v",
		items, took.Round(time.Millisecond), all, most, closest.most(10*time.Second), now)
	if most >= 50 {
		t.Errorf("a node was sent %d datagrams within 10 s: libtorrent ignores who sends it 50", most)
	}
	if now["recursion_begun"] == 0 || now["hop_followed"] == 0 || now["recursion_paced"] == 0 {
		t.Error("the kernel half did not carry the queries up to the limit")
	}
}

// swarm is a number of nodes in this process, all on one host, that count what they are sent.
type swarm struct {
	t     *testing.T
	host  *fleet.Host
	nodes []*swarmNode

	holders []*swarmNode // of the items
	values  map[krpc.ID][]byte
}

type swarmNode struct {
	id   krpc.ID
	addr netip.AddrPort
	conn *net.UDPConn

	mu    sync.Mutex
	heard []time.Time // datagrams
}

func newSwarm(t *testing.T, f *fleet.Fleet) *swarm {
	s := &swarm{t: t, host: addHost(t, f, "swarm"), values: map[krpc.ID][]byte{}}
	t.Cleanup(func() {
		for _, n := range s.nodes {
			_ = n.conn.Close()
		}
	})
	return s
}

// add adds a node with an ID that begins like id.
func (s *swarm) add(id krpc.ID, holder bool) *swarmNode {
	s.t.Helper()
	_, _ = rand.Read(id[4:])
	a := s.host.IPv4.As4()
	a[3] = byte(10 + len(s.nodes))
	n := &swarmNode{id: id, addr: netip.AddrPortFrom(netip.AddrFrom4(a), fleet.Port)}
	must(s.t, s.host.NS.IP("addr", "add", n.addr.Addr().String()+"/24", "dev", "eth0"))
	must(s.t, s.host.NS.Do(func() (err error) {
		n.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(n.addr))
		return err
	}))
	s.nodes = append(s.nodes, n)
	if holder {
		s.holders = append(s.holders, n)
	}
	return n
}

// makeItems makes up items whose targets begin with a byte.
func (s *swarm) makeItems(count int, first byte) map[krpc.ID][]byte {
	for i := 0; len(s.values) < count; i++ {
		text := fmt.Sprintf("item %d", i)
		v := fmt.Appendf(nil, "%d:%s", len(text), text)
		if target := krpc.ImmutableTarget(v); target[0] == first {
			s.values[target] = v
		}
	}
	return s.values
}

// introduce has all nodes answer from now on, and those that hold nothing ask a node until it knows them.
func (s *swarm) introduce(ctx context.Context, node *fleet.Node) {
	s.t.Helper()
	known := 0
	for _, n := range s.nodes {
		go s.serve(n)
		if !slices.Contains(s.holders, n) {
			known++
		}
	}
	must(s.t, node.Poll(ctx, 500*time.Millisecond, func() (bool, error) {
		for _, n := range s.nodes {
			if slices.Contains(s.holders, n) {
				continue
			}
			ping := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("p"), ID: n.id, HasID: true}
			b, err := ping.Append(nil)
			if err != nil {
				return false, err
			}
			if _, err := n.conn.WriteToUDPAddrPort(b, node.Addr4); err != nil {
				return false, err
			}
		}
		r, err := node.Status(ctx)
		return err == nil && r.Families[0].Contacts >= known, err
	}))
	for _, n := range s.nodes {
		n.mu.Lock()
		n.heard = nil
		n.mu.Unlock()
	}
}

// serve answers a node's queries until its socket is closed.
func (s *swarm) serve(n *swarmNode) {
	in := make([]byte, 2048)
	for {
		size, from, err := n.conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.heard = append(n.heard, time.Now())
		n.mu.Unlock()
		var q krpc.Message
		if krpc.Decode(in[:size], &q) != nil || q.Type != krpc.TypeQuery {
			continue
		}
		r := krpc.Message{Type: krpc.TypeResponse, TID: q.TID, ID: n.id, HasID: true}
		if q.HasTarget {
			near := slices.Clone(s.holders)
			slices.SortFunc(near, func(a, b *swarmNode) int {
				x, y := router.Distance(a.id, q.Target), router.Distance(b.id, q.Target)
				return bytes.Compare(x[:], y[:])
			})
			near = near[:8]
			for _, c := range near {
				r.Nodes = append(append(r.Nodes, c.id[:]...), c.addr.Addr().AsSlice()...)
				r.Nodes = binary.BigEndian.AppendUint16(r.Nodes, c.addr.Port())
			}
			if q.Method == krpc.MethodGet && slices.Contains(near, n) {
				r.V, r.Token = s.values[q.Target], []byte("token")
			}
		}
		if b, err := r.Append(nil); err == nil {
			_, _ = n.conn.WriteToUDPAddrPort(b, from)
		}
	}
}

// most returns the most datagrams that the node was sent within a time.
func (n *swarmNode) most(within time.Duration) (most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, first := 0, 0; i < len(n.heard); i++ {
		for n.heard[i].Sub(n.heard[first]) > within {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
