package bpf_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// TestGenericVariant compares the variants: that for generic mode answers the same, but for checksums that are not
// finished.
func TestGenericVariant(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(11, 1)), 100, 100)
	p := program(t, s)
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		for _, q := range []string{ping, findNode, getPeers, get} {
			d := queryTo(end.to, end.from, []byte(q))
			frame := d.frame(t)
			_, want := run(t, p, frame)
			verdict, out, err := p.RunGeneric(frame)
			must(t, err)
			if verdict != xdpTX || !bytes.Equal(out, want) {
				t.Errorf("%q to %v: verdict %d, reply %q, want %q", q, end.to, verdict, out, want)
			}
			binary.BigEndian.PutUint16(frame[d.l4()+6:], d.pseudoSum())
			if verdict, out := run(t, p, frame); verdict != xdpTX || !bytes.Equal(out, want) {
				t.Errorf("%q to %v with a partial checksum: verdict %d, reply %q, want %q", q, end.to, verdict, out, want)
			}
			before := counts(t, p)["partial_checksum"]
			verdict, out, err = p.RunGeneric(frame)
			must(t, err)
			if counted := counts(t, p)["partial_checksum"] - before; verdict != xdpPass || !bytes.Equal(out, frame) || counted != 1 {
				t.Errorf("%q to %v with a partial checksum in generic mode: verdict %d, counted %d", q, end.to, verdict, counted)
			}
		}
	}
}

// TestGenericCoincidence asks with complete checksums that are those of the pseudo header too: they are answered.
func TestGenericCoincidence(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		d := queryTo(end.to, end.from, nil)
		found := false
		for i := 0; i < 1<<16 && !found; i++ {
			q := []byte(ping)
			binary.BigEndian.PutUint16(q[bytes.Index(q, []byte("aa1:y")):], uint16(i))
			d.payload = q
			frame := d.frame(t)
			if found = binary.BigEndian.Uint16(frame[d.l4()+6:]) == d.pseudoSum(); !found {
				continue
			}
			verdict, _, err := p.RunGeneric(frame)
			must(t, err)
			if verdict != xdpTX {
				t.Errorf("%x: verdict %d", frame, verdict)
			}
		}
		if !found {
			t.Errorf("no query to %v has such a checksum", end.to)
		}
	}
}

// TestGenericPartial asks through a router whose own hardware finishes no checksums. What the kernel half answers must
// arrive, and so must the replies of a socket to what it passes.
func TestGenericPartial(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(10, 1)), 300, 300)
	testenv.NeedXDP(t)
	p := program(t, s)
	node, router, asker := netns.New(t, "node"), netns.New(t, "router"), netns.New(t, "asker")
	addr := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	netns.Veth(t,
		netns.End{NS: node, Name: "wire", Addrs: addr("198.18.0.1/24")},
		netns.End{NS: router, Name: "inner", Addrs: addr("198.18.0.254/24")})
	netns.Veth(t,
		netns.End{NS: router, Name: "outer", Addrs: addr("198.18.7.254/24"), Sum: true},
		netns.End{NS: asker, Name: "wire", Addrs: addr("198.18.7.9/24")})
	must(t, router.Sysctl("net.ipv4.ip_forward", "1"))
	must(t, node.IP("route", "add", "default", "via", "198.18.0.254"))
	must(t, asker.IP("route", "add", "default", "via", "198.18.7.254"))

	attached(t, p, node, index(t, node, "wire"), bpf.ModeGeneric)
	before := counts(t, p)["partial_checksum"]
	listen := func(ns *netns.NS, at netip.AddrPort) *net.UDPConn {
		conn, err := in(ns, func() (*net.UDPConn, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)) })
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	socket, conn := listen(node, node4), listen(asker, asker4)
	fromSocket := []byte("from the socket")
	go func() {
		for b := make([]byte, 2000); ; {
			_, from, err := socket.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = socket.WriteToUDPAddrPort(fromSocket, from)
		}
	}()

	v := view(t, s)
	for _, full := range []bool{false, true} {
		if full {
			must(t, netns.FullChecksums(asker, "wire"))
		}
		for _, q := range []string{ping, findNode} {
			want := fromSocket
			if full {
				want = userSpace(t, v, []byte(q), asker4)
			}
			_, err := conn.WriteToUDPAddrPort([]byte(q), node4)
			must(t, err)
			b := make([]byte, 2000)
			must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			n, _, err := conn.ReadFromUDPAddrPort(b)
			if err != nil || !bytes.Equal(b[:n], want) {
				t.Errorf("full checksums %v, %q: reply %q, %v, want %q", full, q, b[:n], err, want)
			}
		}
	}
	if n := counts(t, p)["partial_checksum"] - before; n != 2 {
		t.Errorf("%d partial checksums counted, want 2", n)
	}
}
