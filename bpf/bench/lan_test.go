package main

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"kdht/bpf/netns"
	"kdht/router/krpc"
)

// The second link of the node, where honest clients and other nodes are: what the flood does to the rings of the first is not the node's doing.
const (
	lanNodeIf = "kdhth"
	lanIf     = "kdhtl"
	lanNodes  = 64 // of each family
	// lanPace is how many queries a second a node at the link may be sent: all together as many as a thousand in the public network.
	lanPace = 45
)

var (
	lanNodeAddrs = []netip.Prefix{netip.MustParsePrefix("198.19.1.1/24"), netip.MustParsePrefix("2001:db8:0:1a::1/64")}
	lanAddrs     = []netip.Prefix{netip.MustParsePrefix("198.19.1.2/24"), netip.MustParsePrefix("2001:db8:0:1a::2/64")}
	// Behind lanAddrs: nodes, clients like any other, and clients that may ask for recursion.
	lanNode4, lanNode6 = netip.MustParseAddr("198.19.2.1"), netip.MustParseAddr("2001:db8:2:1::1")
	lanPlain           = []netip.Addr{netip.MustParseAddr("198.19.3.7"), netip.MustParseAddr("2001:db8:3:7::1")}
	lanFresh           = []netip.Addr{netip.MustParseAddr("198.19.3.8"), netip.MustParseAddr("2001:db8:3:8::1")}
	lanTrusted         = []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("fd77::2")}
	lanTrusted2        = []netip.Addr{netip.MustParseAddr("10.77.0.3"), netip.MustParseAddr("fd77:0:0:1::3")}
	lanPrefixes        = []string{"198.19.2.0/24", "198.19.3.0/24", "10.77.0.0/24", "2001:db8:2::/48", "2001:db8:3::/48", "fd77::/48"}
)

// lan is the far end of that link.
type lan struct {
	ns    *netns.NS
	items items
	nodes [2]*remotes
}

// newLAN makes the link, and the nodes behind it.
func (r *rig) newLAN(t testing.TB) *lan {
	t.Helper()
	ns, err := netns.Make("lan")
	must(t, err)
	t.Cleanup(func() { must(t, ns.Close()) })
	must(t, netns.MakeVeth(
		netns.End{NS: r.node, Name: lanNodeIf, MAC: "02:00:00:00:00:03", Addrs: lanNodeAddrs},
		netns.End{NS: ns, Name: lanIf, MAC: "02:00:00:00:00:04", Addrs: lanAddrs, Pass: true, Pad: true, Sum: true},
	))
	var there, back []string
	for i, far := range lanAddrs {
		there = append(there, fmt.Sprintf("neigh replace %s lladdr 02:00:00:00:00:04 nud permanent dev %s", far.Addr(), lanNodeIf))
		back = append(back, fmt.Sprintf("neigh replace %s lladdr 02:00:00:00:00:03 nud permanent dev %s", lanNodeAddrs[i].Addr(), lanIf),
			fmt.Sprintf("route add %s via %s", []netip.AddrPort{nodeAddr, floodNode6}[i].Addr(), lanNodeAddrs[i].Addr()))
	}
	for _, p := range lanPrefixes {
		far, source := lanAddrs[0].Addr(), nodeAddr.Addr()
		if netip.MustParsePrefix(p).Addr().Is6() {
			far, source = lanAddrs[1].Addr(), floodNode6.Addr()
		}
		there = append(there, fmt.Sprintf("route add %s via %s src %s", p, far, source))
		back = append(back, fmt.Sprintf("route add local %s dev lo", p))
	}
	must(t, ns.Sysctl("net.ipv6.ip_nonlocal_bind", "1"))
	must(t, ns.Batch(append([]string{"link set lo up"}, back...)...))
	must(t, r.node.Batch(there...))
	for n, name := range map[*netns.NS]string{r.node: lanNodeIf, ns: lanIf} {
		_, err := threaded(n, name)
		must(t, err)
	}
	l := &lan{ns: ns}
	for i, first := range []netip.Addr{lanNode4, lanNode6} {
		l.nodes[i] = l.remotes(t, first)
	}
	return l
}

// items are what the nodes at the link have for a get, by target.
type items struct{ all sync.Map }

// add makes a new item, and returns its target.
func (s *items) add() krpc.ID {
	v := fmt.Appendf(nil, "20:%08x%012x", rand.Uint32(), rand.Uint64()>>16)
	target := krpc.ID(sha1.Sum(v))
	s.all.Store(target, v)
	return target
}

// remotes are nodes of one family, which one socket answers for.
type remotes struct {
	conn4 *ipv4.PacketConn // one of the two
	conn6 *ipv6.PacketConn
	to    netip.AddrPort // the node under test
	items *items
	nodes []swarmNode
	index map[netip.Addr]int
	delay atomic.Int64 // how long each waits before it answers, in ns
}

// remotes starts nodes, each at the next address, or /64.
func (l *lan) remotes(t testing.TB, first netip.Addr) *remotes {
	t.Helper()
	m := &remotes{items: &l.items, index: map[netip.Addr]int{}}
	rng := rand.New(rand.NewPCG(3, uint64(first.BitLen())))
	for i := range lanNodes {
		b := first.As16()
		if b[7] += byte(i); first.Is4() {
			b = first.As16()
			b[15] += byte(i)
		}
		var random krpc.ID
		for j := range random {
			random[j] = byte(rng.Uint32())
		}
		a := netip.AddrFrom16(b).Unmap()
		m.index[a] = i
		m.nodes = append(m.nodes, swarmNode{krpc.NodeIDFor(a, byte(rng.Uint32()), random), netip.AddrPortFrom(a, nodeAddr.Port())})
	}
	network := "udp4"
	if first.Is6() {
		network = "udp6"
	}
	var conn *net.UDPConn
	must(t, l.ns.Do(func() (err error) {
		conn, err = net.ListenUDP(network, &net.UDPAddr{Port: int(nodeAddr.Port())})
		return err
	}))
	v6 := first.Is6()
	m.conn4, m.conn6 = ipv4.NewPacketConn(conn), ipv6.NewPacketConn(conn)
	if m.to = nodeAddr; v6 {
		m.to = floodNode6
		must(t, m.conn6.SetControlMessage(ipv6.FlagDst, true))
	} else {
		must(t, m.conn4.SetControlMessage(ipv4.FlagDst, true))
	}
	done := make(chan struct{})
	go func() { defer close(done); m.serve(v6) }()
	t.Cleanup(func() {
		must(t, conn.Close())
		<-done
	})
	return m
}

// read reads a datagram into buf, and says to whom it was sent.
func (m *remotes) read(v6 bool, buf []byte) (n int, to netip.Addr, from net.Addr, err error) {
	var dst net.IP
	if v6 {
		var cm *ipv6.ControlMessage
		if n, cm, from, err = m.conn6.ReadFrom(buf); cm != nil {
			dst = cm.Dst
		}
	} else {
		var cm *ipv4.ControlMessage
		if n, cm, from, err = m.conn4.ReadFrom(buf); cm != nil {
			dst = cm.Dst
		}
	}
	to, _ = netip.AddrFromSlice(dst)
	return n, to.Unmap(), from, err
}

// write sends a datagram from one of the nodes. What is lost is asked for again.
func (m *remotes) write(b []byte, from netip.Addr, to net.Addr) {
	if from.Is6() {
		_, _ = m.conn6.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, to)
	} else {
		_, _ = m.conn4.WriteTo(b, &ipv4.ControlMessage{Src: from.AsSlice()}, to)
	}
}

// greet has every node ask the one under test, which hears of it by that.
func (m *remotes) greet() {
	for _, n := range m.nodes {
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("hi"), ID: n.id, HasID: true}
		if b, err := q.Append(nil); err == nil {
			m.write(b, n.addr.Addr(), net.UDPAddrFromAddrPort(m.to))
		}
	}
}

// serve answers until the socket is closed.
func (m *remotes) serve(v6 bool) {
	buf := make([]byte, 2048)
	var q krpc.Message
	for {
		n, to, from, err := m.read(v6, buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		i, ok := m.index[to]
		if err != nil || !ok || krpc.Decode(buf[:n], &q) != nil || q.Type != krpc.TypeQuery {
			continue
		}
		r := krpc.Message{Type: krpc.TypeResponse, TID: q.TID, ID: m.nodes[i].id, HasID: true, IP: m.to}
		target := q.Target
		if q.HasInfoHash {
			target = q.InfoHash
		}
		if q.HasTarget || q.HasInfoHash {
			for _, n := range m.closest(target) {
				if to.Is4() {
					r.Nodes = krpc.AppendNode(r.Nodes, n.id, n.addr)
				} else {
					r.Nodes6 = krpc.AppendNode(r.Nodes6, n.id, n.addr)
				}
			}
		}
		if q.Method == krpc.MethodGet || q.Method == krpc.MethodGetPeers {
			r.Token = []byte("lantoken")
			if v, ok := m.items.all.Load(target); ok && q.Method == krpc.MethodGet {
				r.V = v.([]byte)
			}
		}
		out, err := r.Append(nil)
		if err != nil {
			continue
		}
		if d := time.Duration(m.delay.Load()); d > 0 {
			time.AfterFunc(d, func() { m.write(out, to, from) })
		} else {
			m.write(out, to, from)
		}
	}
}

// closest are the eight nodes closest to a target.
func (m *remotes) closest(target krpc.ID) []swarmNode {
	all := slices.Clone(m.nodes)
	slices.SortFunc(all, func(a, b swarmNode) int {
		for i := range target {
			if x, y := a.id[i]^target[i], b.id[i]^target[i]; x != y {
				return int(x) - int(y)
			}
		}
		return 0
	})
	return all[:8]
}

// client asks one thing after the other, sends each query once, and answers pings.
type client struct {
	name string
	conn *net.UDPConn
	to   netip.AddrPort
	// next makes a query; good says whether a response to it is what was asked for.
	next  func() (krpc.Message, func(*krpc.Message) bool)
	pause time.Duration // after each
	tid   uint16

	asked, answered, challenged, other, silent atomic.Int64 // queries, and what came of each: a response, a challenge, another answer, or nothing
	slowest                                    time.Duration
}

func (c *client) String() string {
	return fmt.Sprintf("%s: %d of %d first datagrams answered, %d challenged, %d answered otherwise, %d not; the slowest took %v", c.name, c.answered.Load(), c.asked.Load(),
		c.challenged.Load(), c.other.Load(), c.silent.Load(), c.slowest.Round(time.Millisecond))
}

// client makes one at an address behind the link.
func (l *lan) client(t testing.TB, name string, from netip.Addr, next func() (krpc.Message, func(*krpc.Message) bool)) *client {
	t.Helper()
	c := &client{name: name, to: nodeAddr, next: next, pause: 40 * time.Millisecond}
	if from.Is6() {
		c.to = floodNode6
	}
	must(t, l.ns.Do(func() (err error) {
		c.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 6882)))
		return err
	}))
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// clientPatience is longer than a client of recursion has to wait.
const clientPatience = 6 * time.Second

// ask sends one query and waits for what comes of it.
func (c *client) ask(t testing.TB) {
	q, good := c.next()
	c.tid++
	q.Type, q.TID, q.HasID, q.ID = krpc.TypeQuery, []byte{byte(c.tid >> 8), byte(c.tid)}, true, krpc.ID([]byte("abcdefghij0123456789"))
	out, err := q.Append(nil)
	if err != nil {
		t.Errorf("%s: %v", c.name, err)
		return
	}
	begin := time.Now()
	if _, err := c.conn.WriteToUDPAddrPort(out, c.to); err != nil {
		return // the test is over
	}
	c.asked.Add(1)
	_ = c.conn.SetReadDeadline(begin.Add(clientPatience))
	buf := make([]byte, 2048)
	var m krpc.Message
	for {
		n, _, err := c.conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.silent.Add(1)
			return
		case err != nil:
			return
		case krpc.Decode(buf[:n], &m) != nil:
		case m.Type == krpc.TypeQuery && m.Method == krpc.MethodPing:
			reply := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, HasID: true, ID: q.ID}
			if b, err := reply.Append(nil); err == nil {
				_, _ = c.conn.WriteToUDPAddrPort(b, c.to)
			}
			if len(m.TID) == 8 { // a challenge, in place of the answer
				c.challenged.Add(1)
				return
			}
		case string(m.TID) != string(q.TID): // of one that was given up
		case m.Type == krpc.TypeResponse && good(&m):
			c.answered.Add(1)
			c.slowest = max(c.slowest, time.Since(begin))
			return
		default:
			c.other.Add(1)
			return
		}
	}
}

// reset begins to count anew.
func (c *client) reset() {
	for _, n := range []*atomic.Int64{&c.asked, &c.answered, &c.challenged, &c.other, &c.silent} {
		n.Store(0)
	}
	c.slowest = 0
}
