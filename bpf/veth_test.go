package bpf_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/bpf/netns"
)

// TestVeth asks over a veth pair with ordinary sockets, whose kernel checks every header and checksum of the replies.
// There is no process behind the node's address. Over IPv6 a reply can be too long for what the driver leaves around
// the frame: then the query must go up.
func TestVeth(t *testing.T) {
	node, asker := wire(t)
	prefix := func(a netip.AddrPort) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(a.Addr(), map[bool]int{true: 16, false: 32}[a.Addr().Is4()])}
	}
	for _, e := range []netns.End{{NS: node, Addrs: append(prefix(node4), prefix(node6)...)}, {NS: asker, Addrs: append(prefix(asker4), prefix(asker6)...)}} {
		for _, a := range e.Addrs {
			must(t, e.NS.IP("addr", "add", a.String(), "dev", "wire"))
		}
	}
	s := snapshot(rand.New(rand.NewPCG(10, 1)), 300, 300)
	v := view(t, s)
	p := program(t, s)
	tooLong := counts(t, p)["no_room"]
	for _, mode := range []bpf.Mode{bpf.ModeNative, bpf.ModeGeneric} {
		attached(t, p, node, index(t, node, "wire"), mode)
		for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
			conn, err := in(asker, func() (*net.UDPConn, error) {
				return net.ListenUDP("udp", net.UDPAddrFromAddrPort(end.from)) // unconnected: ICMP errors do not matter
			})
			must(t, err)
			for _, q := range []string{
				ping, findNode, getPeers, get,
				"d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe",
				"d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q3:get1:t20:abcdefghijklmnopqrst1:y1:qe",
			} {
				answered, refused := 0, 0
				want := userSpace(t, v, []byte(q), end.from)
				for range 60 {
					if exchange(t, p, conn, end.to, []byte(q), want) {
						answered++
					} else {
						refused++
					}
				}
				growth := len(want) - len(q)
				t.Logf("%v mode, %v, %d bytes more: %d answered, %d without room", mode, end.to, growth, answered, refused)
				if refused > 0 && growth <= 256-40 { // headroom less an XDP frame's bookkeeping
					t.Errorf("no room for %d bytes more", growth)
				}
			}
			must(t, conn.Close())
		}
	}
	if counts(t, p)["no_room"] == tooLong {
		t.Error("no reply was too long for its frame")
	}
}

// exchange sends a query and, if the program answers it, compares the reply.
func exchange(t testing.TB, p *bpf.Program, conn *net.UDPConn, to netip.AddrPort, query, want []byte) (answered bool) {
	t.Helper()
	before := counts(t, p)
	_, err := conn.WriteToUDPAddrPort(query, to)
	must(t, err)
	deadline := time.Now().Add(30 * time.Second)
	for {
		now := counts(t, p)
		if now["no_room"] != before["no_room"] {
			return false
		}
		moved := ""
		for k, n := range now {
			if n != before[k] && bytes.HasPrefix([]byte(k), []byte("answered/")) {
				moved = k
			}
		}
		if moved != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no counter of the program moved for %q: %v, %v", query, before, now)
		}
	}
	must(t, conn.SetReadDeadline(deadline))
	got := make([]byte, 2000)
	n, _, err := conn.ReadFromUDPAddrPort(got)
	must(t, err)
	if !bytes.Equal(got[:n], want) {
		t.Fatalf("reply to %q\n got %q\nwant %q", query, got[:n], want)
	}
	return true
}
