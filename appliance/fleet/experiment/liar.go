package main

import (
	"crypto/rand"
	"math/bits"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"kdht/appliance/fleet"
	"kdht/router/krpc"
)

// Each liar tells lies of one kind whenever it is asked for anything but a ping, in answers that are right in form: the
// transaction ID is the query's, and they come from where the query went. It takes puts and announces, and keeps nothing. Who
// lies about items in a way that there is not of peers lies about these as peers says.
var lies = []struct {
	name  string
	peers string
	tell  func(c *circle, l *endpoint, q *krpc.Message, from netip.AddrPort, r *krpc.Message)
}{
	{"other values", "peers at their own addresses, the client's and nobody's", func(c *circle, l *endpoint, q *krpc.Message, from netip.AddrPort, r *krpc.Message) {
		if q.Method != krpc.MethodGetPeers {
			r.V = []byte("6:forged")
			return
		}
		peers := append([]netip.AddrPort{l.addr, from}, nowhere...)
		for _, a := range c.clients {
			peers = append(peers, netip.AddrPortFrom(a, peerPort))
		}
		for _, p := range peers {
			r.Values = krpc.AppendPeer(r.Values, p)
		}
	}},
	// A newer version, by the right key where that is known from a put, with a signature of nobody.
	{"bad signatures", "more made-up peers than an answer has room for", func(c *circle, _ *endpoint, q *krpc.Message, _ netip.AddrPort, r *krpc.Message) {
		if q.Method == krpc.MethodGetPeers {
			for range manyPeers {
				b := randomBytes(4)
				r.Values = krpc.AppendPeer(r.Values, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 | b[0]&1, b[1], b[2]}), 1+uint16(b[3])))
			}
			return
		}
		r.V, r.K, r.Sig, r.Seq, r.HasSeq = []byte("6:forged"), randomBytes(32), randomBytes(64), 1<<40, true
		if put := c.put(q.Target); put != nil {
			r.K, r.Seq = put.K, put.Seq+1
		}
	}},
	{"referrals to themselves", "", func(_ *circle, l *endpoint, q *krpc.Message, _ netip.AddrPort, r *krpc.Message) {
		for i := range 8 {
			refer(r, q, l.addr, 100+i)
		}
	}},
	{"referrals to the client", "", func(c *circle, _ *endpoint, q *krpc.Message, from netip.AddrPort, r *krpc.Message) {
		refer(r, q, from, 120)
		for i, a := range c.clients {
			refer(r, q, netip.AddrPortFrom(a, fleet.Port), 100+i)
		}
	}},
	{"referrals to unroutable addresses", "", func(_ *circle, _ *endpoint, q *krpc.Message, _ netip.AddrPort, r *krpc.Message) {
		for i, a := range nowhere {
			refer(r, q, a, 100+i)
		}
	}},
	// Each to ones that are closer, who answer under the IDs that they were given.
	{"endless referrals", "", func(c *circle, l *endpoint, q *krpc.Message, _ netip.AddrPort, r *krpc.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		target := wanted(q)
		if id, ok := c.claimed[claim{l.addr, target}]; ok {
			r.ID = id
		}
		shared := sharedBits(r.ID, target)
		for i := range 8 {
			next := c.endless[mathrand.IntN(len(c.endless))]
			if next.addr.Addr().Is4() != l.addr.Addr().Is4() {
				continue
			}
			id := near(target, min(shared+1+i, 159))
			c.claimed[claim{next.addr, target}] = id
			appendNode(r, id, next.addr)
		}
	}},
}

// manyPeers is how many peers fit in a datagram that is not sent in fragments; an answer of ours has room for 115.
const manyPeers = 150

// wanted is what a query asks for.
func wanted(q *krpc.Message) krpc.ID {
	if q.HasInfoHash {
		return q.InfoHash
	}
	return q.Target
}

// nowhere are addresses that are nobody's.
var nowhere = []netip.AddrPort{
	netip.MustParseAddrPort("0.0.0.0:6881"), netip.MustParseAddrPort("127.0.0.1:6881"), netip.MustParseAddrPort("255.255.255.255:6881"),
	netip.MustParseAddrPort("224.0.0.251:6881"), netip.MustParseAddrPort("10.1.2.3:6881"), netip.MustParseAddrPort("240.1.2.3:6881"),
	netip.MustParseAddrPort("198.51.100.7:6881"), netip.MustParseAddrPort("198.18.1.1:0"),
	netip.MustParseAddrPort("[::]:6881"), netip.MustParseAddrPort("[::1]:6881"), netip.MustParseAddrPort("[ff02::1]:6881"),
	netip.MustParseAddrPort("[fe80::1]:6881"), netip.MustParseAddrPort("[fd00::1]:6881"), netip.MustParseAddrPort("[2001:db8:ffff::1]:6881"),
}

// endpoints is how many addresses each of those has that refer endlessly.
const endpoints = 8

// circle is all liars together.
type circle struct {
	clients []netip.Addr
	told    [2][]atomic.Int64 // lies about items and about peers, by kind
	met     atomic.Int64      // nodes' pings
	wg      sync.WaitGroup
	all     []*endpoint

	mu      sync.Mutex
	puts    map[krpc.ID]*krpc.Message
	claimed map[claim]krpc.ID
	endless []*endpoint
}

// claim is an ID that an endpoint was said to have, for a certain target.
type claim struct {
	addr   netip.AddrPort
	target krpc.ID
}

// endpoint is one address of a liar.
type endpoint struct {
	conn *net.UDPConn
	addr netip.AddrPort
	id   krpc.ID
	kind int
}

func newCircle(clients ...*fleet.Host) *circle {
	c := &circle{told: [2][]atomic.Int64{make([]atomic.Int64, len(lies)), make([]atomic.Int64, len(lies))}, puts: map[krpc.ID]*krpc.Message{}, claimed: map[claim]krpc.ID{}}
	for _, h := range clients {
		c.clients = append(c.clients, h.IPv4, h.IPv6)
	}
	return c
}

// join has a liar live on a host.
func (c *circle) join(h *fleet.Host, kind int) error {
	ports := 1
	if lies[kind].name == "endless referrals" {
		ports = endpoints
	}
	for port := range ports {
		for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
			l := &endpoint{addr: netip.AddrPortFrom(a, fleet.Port+uint16(port)), kind: kind}
			l.id = krpc.NodeIDFor(a, byte(port), krpc.ID(randomBytes(krpc.IDLen)))
			err := h.NS.Do(func() (err error) {
				l.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.addr))
				return err
			})
			if err != nil {
				return err
			}
			c.mu.Lock()
			c.all = append(c.all, l)
			if ports > 1 {
				c.endless = append(c.endless, l)
			}
			c.mu.Unlock()
			c.wg.Go(func() { c.run(l) })
		}
	}
	return nil
}

// meet makes every liar's first endpoints known to nodes: by queries of its own, after which they see whether it is there.
func (c *circle) meet(nodes []*fleet.Node) {
	for _, l := range c.all {
		if l.addr.Port() != fleet.Port {
			continue
		}
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: []byte("lr"), ID: l.id, HasID: true, Target: l.id, HasTarget: true}
		b, err := q.Append(nil)
		if err != nil {
			continue
		}
		for _, n := range nodes {
			_, _ = l.conn.WriteToUDPAddrPort(b, address(n, l.addr.Addr().Is6()))
		}
	}
}

// close ends all liars.
func (c *circle) close() {
	for _, l := range c.all {
		_ = l.conn.Close()
	}
	c.wg.Wait()
}

// run answers queries until the socket is closed.
func (c *circle) run(l *endpoint) {
	in := make([]byte, 2048)
	for {
		n, from, err := l.conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		q := new(krpc.Message)
		if krpc.Decode(slices.Clone(in[:n]), q) != nil || q.Type != krpc.TypeQuery {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		r := krpc.Message{Type: krpc.TypeResponse, TID: q.TID, ID: l.id, HasID: true, IP: from}
		switch q.Method {
		case krpc.MethodPing:
			c.met.Add(1)
		case krpc.MethodPut:
			c.keep(q)
		case krpc.MethodAnnouncePeer:
		default:
			r.Token = []byte("liar")
			lies[l.kind].tell(c, l, q, from, &r)
			switch q.Method {
			case krpc.MethodGet:
				c.told[0][l.kind].Add(1)
			case krpc.MethodGetPeers:
				c.told[1][l.kind].Add(1)
			}
		}
		if b, err := r.Append(nil); err == nil {
			_, _ = l.conn.WriteToUDPAddrPort(b, from)
		}
	}
}

// keep notes a put, to lie about it.
func (c *circle) keep(q *krpc.Message) {
	if q.K == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts[krpc.MutableTarget(q.K, q.Salt)] = q
}

func (c *circle) put(target krpc.ID) *krpc.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.puts[target]
}

// refer adds a referral to an address under an ID that shares some bits with the target of a query.
func refer(r, q *krpc.Message, a netip.AddrPort, shared int) {
	appendNode(r, near(wanted(q), shared), a)
}

func appendNode(r *krpc.Message, id krpc.ID, a netip.AddrPort) {
	if a.Addr().Is4() {
		r.Nodes = krpc.AppendNode(r.Nodes, id, a)
	} else {
		r.Nodes6 = krpc.AppendNode(r.Nodes6, id, a)
	}
}

// near returns an ID that shares exactly so many leading bits with a target.
func near(target krpc.ID, shared int) krpc.ID {
	id := krpc.ID(randomBytes(krpc.IDLen))
	for i := range id {
		switch own := shared - 8*i; {
		case own >= 8:
			id[i] = target[i]
		case own >= 0:
			mask := byte(0xff) >> own
			id[i] = target[i]&^mask | (id[i]&mask)&(mask>>1) | ^target[i]&(mask^mask>>1)
		}
	}
	return id
}

// sharedBits is how many leading bits two IDs share.
func sharedBits(a, b krpc.ID) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
