package conformance_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dchest/siphash"

	"kdht/appliance/status"
	"kdht/router/krpc"
	"kdht/store"
)

// pair is two nodes with the same addresses, the same state and the same neighbours, one with and one without kernel
// half.
type pair struct {
	nodes   [2]*node // as modes
	secrets store.Secrets
	items   []krpc.Message // that both hold, as their puts were
	peers   map[krpc.ID]netip.AddrPort
	tally   tally    // of what was sent to each
	swarms  []*swarm // one of each family; the nodes of both rigs are the same
}

// Of the pair's routing tables.
const (
	pairBuckets   = 10
	pairPerBucket = 6
)

// newPair makes a pair. What both hold was put into a node over the wire before, and that one's state is copied.
func newPair(t *testing.T) *pair {
	t.Helper()
	rigs := [2]*rig{newRig(t), newRig(t)}
	p := &pair{peers: make(map[krpc.ID]netip.AddrPort)}

	// Secrets that are due for rotation: the tokens of both are old, those of one are still good.
	p.secrets.Current, p.secrets.Previous = [16]byte{1, 2, 3}, [16]byte{4, 5, 6}
	p.secrets.Rotated = time.Now().Add(-6 * time.Minute)
	state := t.TempDir()
	s := get[*store.Store](t)(store.Open(stateFile(state), store.Options{}))
	must(t, s.SetSecrets(p.secrets))
	must(t, s.Close())

	full := func(s status.Report) bool { return contacts(s) == 2*pairBuckets*pairPerBucket }
	first := rigs[0].serve(t, modes[0], state)
	for _, r := range rigs {
		p.populate(t, r, first)
	}
	first.until(t, "the table is full", full)
	p.fill(t, rigs[0])
	first.stop(t)
	states := [2]string{copyState(t, state), copyState(t, state)}
	for i, mode := range modes {
		p.nodes[i] = rigs[i].serve(t, mode, states[i])
		p.nodes[i].until(t, "the table is full again", full)
		for _, s := range p.swarms {
			s.published(t, rigs[i])
		}
	}
	return p
}

// contacts returns how many good contacts a node has.
func contacts(s status.Report) (n int) {
	for _, f := range s.Families {
		n += f.Good
	}
	return n
}

// populate gives a rig the same nodes as every other one, and those of the first rig a place in a node's table.
func (p *pair) populate(t *testing.T, r *rig, n *node) {
	t.Helper()
	for _, f := range n.status(t).Families {
		to := node4
		if f.Family == "IPv6" {
			to = node6
		}
		s := r.newSwarm(t, get[krpc.ID](t)(krpc.ParseID(f.ID)), to, pairBuckets, 0, pairPerBucket)
		if r == n.r {
			s.join(t, n, s.nodes)
			p.swarms = append(p.swarms, s)
		}
	}
}

// keyOf is the private key of all mutable items but those of the BEP.
var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

// fill stores items and peers in the first node.
func (p *pair) fill(t *testing.T, r *rig) {
	t.Helper()
	c := r.dial(t, netip.AddrPortFrom(client4, 0), node4)
	for _, v := range theVectors(t).BEP44[:3] { // those printed in the BEP
		m := krpc.Message{V: v.V}
		if v.K != nil {
			m = krpc.Message{K: v.K, Salt: v.Salt, Seq: v.Seq, HasSeq: true, V: v.V, Sig: v.Sig}
		}
		p.items = append(p.items, m)
	}
	for i := range 20 {
		p.items = append(p.items, krpc.Message{V: []byte(num(int64(i)))},
			signed([]byte(fmt.Sprintf("salt %d", i)), int64(i), []byte(str(fmt.Sprintf("value %d", i)))))
	}
	for _, m := range p.items {
		mustStore(t, c, put(m))
	}
	// One peer an infohash: which of many are given is left to chance.
	for i, text := range []string{"mnopqrstuvwxyz123456", "one more infohash, 20"[:20]} {
		q := krpc.Message{Method: krpc.MethodAnnouncePeer, InfoHash: krpc.ID([]byte(text)), HasInfoHash: true, Port: uint16(7000 + i), HasPort: true}
		mustStore(t, c, q)
		p.peers[q.InfoHash] = netip.AddrPortFrom(client4, q.Port)
	}
}

// signed is a mutable item.
func signed(salt []byte, seq int64, v []byte) krpc.Message {
	return krpc.Message{K: key.Public().(ed25519.PublicKey), Salt: salt, Seq: seq, HasSeq: true, V: v, Sig: krpc.Sign(key, salt, seq, v)}
}

// put makes the put of an item.
func put(m krpc.Message) krpc.Message {
	m.Method = krpc.MethodPut
	return m
}

// targetOf is the target of an item.
func targetOf(m krpc.Message) krpc.ID {
	if m.K == nil {
		return krpc.ImmutableTarget(m.V)
	}
	return krpc.MutableTarget(m.K, m.Salt)
}

// ask sends a query and returns its answer.
func ask(t testing.TB, c *client, q krpc.Message) *krpc.Message {
	t.Helper()
	q.Type, q.TID, q.HasID = krpc.TypeQuery, []byte("aa"), true
	copy(q.ID[:], asker)
	b := get[[]byte](t)(q.Append(nil))
	_, m, err := c.answer(b)
	if err != nil {
		t.Fatalf("%s: %v", q.Method, err)
	}
	return m
}

// mustStore has a put or an announce accepted.
func mustStore(t testing.TB, c *client, q krpc.Message) {
	t.Helper()
	q.Token = askToken(t, c)
	if m := ask(t, c, q); m.Type != krpc.TypeResponse {
		t.Fatalf("%s: %s", q.Method, describe(m))
	}
}

// askToken asks for a write token.
func askToken(t testing.TB, c *client) []byte {
	t.Helper()
	m := ask(t, c, krpc.Message{Method: krpc.MethodGet, Target: krpc.ID{1}, HasTarget: true})
	if len(m.Token) != 8 {
		t.Fatalf("get: %s with token %x", describe(m), m.Token)
	}
	return m.Token
}

// tokenOf computes a token: SipHash-2-4 of the address.
func tokenOf(secret [16]byte, a netip.Addr) []byte {
	sum := siphash.Hash(binary.LittleEndian.Uint64(secret[:8]), binary.LittleEndian.Uint64(secret[8:]), a.AsSlice())
	return binary.LittleEndian.AppendUint64(nil, sum)
}

// unharmed makes sure that both nodes serve, from sockets of their own, everything that was stored, and that no part
// of them had to be restarted.
func (p *pair) unharmed(t *testing.T) {
	t.Helper()
	for i, n := range p.nodes {
		for _, to := range []netip.AddrPort{node4, node6} {
			c := n.r.dial(t, netip.AddrPortFrom(clientFor(to), 0), to)
			for _, it := range p.items {
				m := ask(t, c, krpc.Message{Method: krpc.MethodGet, Target: targetOf(it), HasTarget: true})
				if !bytes.Equal(m.V, it.V) || !bytes.Equal(m.K, it.K) || m.Seq != it.Seq || !bytes.Equal(m.Sig, it.Sig) {
					t.Errorf("%s: get %s: %s with v %q, seq %d", modes[i], targetOf(it), describe(m), m.V, m.Seq)
				}
			}
			_ = c.conn.Close()
		}
		c := n.r.dial(t, netip.AddrPortFrom(client4, 0), node4)
		for infohash, peer := range p.peers {
			m := ask(t, c, krpc.Message{Method: krpc.MethodGetPeers, InfoHash: infohash, HasInfoHash: true})
			if got := slices.Collect(krpc.Peers(m.Values)); !slices.Contains(got, peer) {
				t.Errorf("%s: get_peers %s: %v, want %s among them", modes[i], infohash, got, peer)
			}
		}
		_ = c.conn.Close()
		if restarts := n.counters(t)["restarts"]; restarts > 0 {
			t.Errorf("%s: tasks were restarted %d times", modes[i], restarts)
		}
	}
}

// clientFor is the first client's address of a node's family.
func clientFor(node netip.AddrPort) netip.Addr {
	if node.Addr().Is6() {
		return client6
	}
	return client4
}

// clientPort is the port of the clients that are compared.
const clientPort = 51413

// clients makes a client of each node at an address, with the same port.
func (p *pair) clients(t *testing.T, at netip.Addr, to netip.AddrPort) (cs [2]*client) {
	t.Helper()
	for i, n := range p.nodes {
		cs[i] = n.r.dial(t, netip.AddrPortFrom(at, clientPort), to)
	}
	return cs
}
