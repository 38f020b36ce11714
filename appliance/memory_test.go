package appliance_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/router/krpc"
)

// ownLimit bounds a node's own memory with full tables, in KiB. What is resident besides are pages of its files, which the kernel maps in
// pieces as large as they lie in its cache, and takes back when it needs the room.
const ownLimit = 20 << 10

// TestMemory fills both routing tables with nodes that answer, and looks at how much memory the process has then.
func TestMemory(t *testing.T) {
	p := newPair(t)
	// Every address of these networks is one of the crowd's.
	do(t, p.gen, "route add local 198.19.0.0/16 dev lo", "-6 route add local 2001:db8:1::/48 dev lo")
	do(t, p.node, "route add 198.19.0.0/16 via 198.18.3.2", "-6 route add 2001:db8:1::/48 via 2001:db8:0:3::2")
	if err := p.gen.Sysctl("net.ipv6.ip_nonlocal_bind", "1"); err != nil { // or none of these may be a source
		t.Fatal(err)
	}
	running := serve(t, p.node, t.TempDir(), "--network", "private", "--set", "limits.queriesPerSecond=5000")
	r := running.report()
	var crowds []*crowd
	for _, f := range r.Families {
		id, err := hex.DecodeString(f.ID)
		if err != nil {
			t.Fatal(err)
		}
		crowds = append(crowds, newCrowd(t, p.gen, f.Family == "IPv6", [20]byte(id), p.addrs))
	}
	full := func(r status.Report) bool {
		for _, f := range r.Families {
			if f.Contacts < crowdBuckets*8 {
				return false
			}
		}
		return true
	}
	deadline := time.Now().Add(90 * time.Second)
	for r = running.report(); !full(r); r = running.report() {
		if time.Now().After(deadline) {
			t.Fatalf("tables have %d and %d contacts, want %d each", r.Families[0].Contacts, r.Families[1].Contacts, crowdBuckets*8)
		}
		for _, c := range crowds {
			c.show(t)
		}
	}
	// Work for the collector: lookups of others, and scrapes.
	l := startLoad(t, p.gen, 2, p.addrs...)
	l.waitFor(t, 20000)
	l.stop()
	for range 20 {
		resp, err := running.client().Get("http://" + httpAddr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	own, all := resident(t, running.cmd.Process.Pid)
	t.Logf("resident with %d and %d contacts: %d KiB, %d KiB of them the process's own", r.Families[0].Contacts, r.Families[1].Contacts, all, own)
	if own > ownLimit {
		t.Errorf("the process's own memory is %d KiB, want at most %d KiB", own, ownLimit)
	}
}

// resident reads how much of a process's own memory is resident, and how much of everything, in KiB.
func resident(t *testing.T, pid int) (own, all int) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[0] {
		case "RssAnon:":
			own = n
		case "VmRSS:":
			all = n
		}
	}
	if own == 0 {
		t.Fatalf("the kernel does not say how much of the memory of process %d is its own", pid)
	}
	return own, all
}

// crowdBuckets is how many buckets a crowd fills: of each of the first 20 levels, by the number of leading bits shared with the
// node, the 8 that it is divided into by the next 3. So it is in a network of 100 million nodes.
const crowdBuckets = 20 * 8

// crowd is a DHT of one family whose nodes fill many buckets of a routing table. All of them share a socket.
type crowd struct {
	addrs []netip.Addr
	index map[netip.Addr]int
	node  netip.AddrPort
	send  func(b []byte, from netip.Addr, to net.Addr) error

	mu    sync.Mutex
	ids   [][20]byte
	asked []bool // by the node
}

func newCrowd(t *testing.T, ns *netns.NS, v6 bool, self [20]byte, nodes []netip.AddrPort) *crowd {
	t.Helper()
	c := &crowd{index: make(map[netip.Addr]int), node: nodes[0]}
	network := "udp4"
	if v6 {
		c.node, network = nodes[1], "udp6"
	}
	for j := range 8 {
		for i := range crowdBuckets {
			c.add(idInBucket(self, i/8, i%8, j), v6)
		}
	}
	var conn *net.UDPConn
	if err := ns.Do(func() (err error) {
		conn, err = net.ListenUDP(network, &net.UDPAddr{Port: 6881})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var receive func(b []byte) (int, netip.Addr, net.Addr, error)
	if v6 {
		pc := ipv6.NewPacketConn(conn)
		if err := pc.SetControlMessage(ipv6.FlagDst, true); err != nil {
			t.Fatal(err)
		}
		c.send = func(b []byte, from netip.Addr, to net.Addr) error {
			_, err := pc.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, to)
			return err
		}
		receive = func(b []byte) (int, netip.Addr, net.Addr, error) {
			n, cm, from, err := pc.ReadFrom(b)
			if err != nil {
				return 0, netip.Addr{}, nil, err
			}
			a, _ := netip.AddrFromSlice(cm.Dst)
			return n, a, from, nil
		}
	} else {
		pc := ipv4.NewPacketConn(conn)
		if err := pc.SetControlMessage(ipv4.FlagDst, true); err != nil {
			t.Fatal(err)
		}
		c.send = func(b []byte, from netip.Addr, to net.Addr) error {
			_, err := pc.WriteTo(b, &ipv4.ControlMessage{Src: from.AsSlice()}, to)
			return err
		}
		receive = func(b []byte) (int, netip.Addr, net.Addr, error) {
			n, cm, from, err := pc.ReadFrom(b)
			if err != nil {
				return 0, netip.Addr{}, nil, err
			}
			a, _ := netip.AddrFromSlice(cm.Dst.To4())
			return n, a, from, nil
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, to, from, err := receive(buf)
			if err != nil {
				return
			}
			c.answer(buf[:n], to, from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return c
}

// add makes one more node, with an address of its own; IPv6 nodes each have a /64.
func (c *crowd) add(id [20]byte, v6 bool) {
	n := len(c.ids)
	a := netip.AddrFrom4([4]byte{198, 19, byte(n >> 8), byte(n)})
	if v6 {
		b := netip.MustParseAddr("2001:db8:1::1").As16()
		binary.BigEndian.PutUint16(b[6:], uint16(n))
		a = netip.AddrFrom16(b)
	}
	c.ids, c.addrs, c.asked = append(c.ids, id), append(c.addrs, a), append(c.asked, false)
	c.index[a] = n
}

// idInBucket makes the jth ID that shares exactly level leading bits with self, and has a number in the next 3.
func idInBucket(self [20]byte, level, number, j int) [20]byte {
	id := self
	id[level/8] ^= 0x80 >> (level % 8)
	r := rand.New(rand.NewPCG(uint64(level*8+number), uint64(j)))
	for k := level + 1; k < 160; k++ {
		bit := byte(r.IntN(2))
		if k <= level+3 {
			bit = byte(number >> (level + 3 - k) & 1)
		}
		id[k/8] = id[k/8]&^(0x80>>(k%8)) | bit<<(7-k%8)
	}
	return id
}

// show sends a query, which the kernel half leaves to user space, from every node that was not asked anything yet: in
// a flood the node takes no notice of most, nor of the same ones again for minutes, so they come with another ID.
func (c *crowd) show(t *testing.T) {
	t.Helper()
	sent := 0
	for n := range c.addrs {
		c.mu.Lock()
		asked := c.asked[n]
		if !asked { // byte 15 comes after what decides about the bucket
			c.ids[n][15]++
		}
		id := c.ids[n]
		c.mu.Unlock()
		if asked {
			continue
		}
		q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodSampleInfohashes, TID: []byte("sh"), ID: id, HasID: true, Target: id, HasTarget: true}
		b, err := q.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.send(b, c.addrs[n], net.UDPAddrFromAddrPort(c.node)); err != nil {
			t.Fatal(err)
		}
		if sent++; sent%16 == 0 {
			select { // so many pings at once the node sends at most, with the other family
			case <-t.Context().Done():
				t.Fatal(context.Cause(t.Context()))
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// answer answers the node's own queries as the addressed member of the crowd.
func (c *crowd) answer(b []byte, to netip.Addr, from net.Addr) {
	var m krpc.Message
	n, ok := c.index[to]
	if !ok || krpc.Decode(b, &m) != nil || m.Type != krpc.TypeQuery {
		return
	}
	c.mu.Lock()
	if len(m.TID) != 8 { // that one is asked for a sign of being there, which a flood makes the node want
		c.asked[n] = true
	}
	r := krpc.Message{Type: krpc.TypeResponse, TID: m.TID, ID: c.ids[n], HasID: true}
	c.mu.Unlock()
	if m.Method != krpc.MethodPing {
		r.Nodes, r.Nodes6 = []byte{}, []byte{}
	}
	if out, err := r.Append(nil); err == nil {
		_ = c.send(out, to, from) // a lost answer is asked for again
	}
}
