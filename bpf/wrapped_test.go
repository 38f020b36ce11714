package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/bpf/netns"
	"kdht/router"
)

// wrapping is a way in which a datagram can come other than behind a plain IP header.
type wrapping struct {
	name   string
	reason string
	wrap   func(t testing.TB, d datagram) (frames [][]byte)
	short  bool // the first frame has less than a challenge
	unlike bool // there is none for a socket in it, as far as can be told
}

// withOptions puts n words of options, all of them no-operations, into the IPv4 header.
func withOptions(n int) func(testing.TB, datagram) [][]byte {
	return func(t testing.TB, d datagram) [][]byte {
		frame := slices.Insert(d.frame(t), d.l4(), bytes.Repeat([]byte{1}, 4*n)...)
		ip := frame[d.l3():]
		ip[0] += byte(n)
		binary.BigEndian.PutUint16(ip[2:], binary.BigEndian.Uint16(ip[2:])+uint16(4*n))
		setIPv4Checksum(ip)
		return [][]byte{frame}
	}
}

// inFragments4 cuts it behind so many bytes from the UDP header on, a multiple of 8.
func inFragments4(at int) func(testing.TB, datagram) [][]byte {
	return func(t testing.TB, d datagram) [][]byte {
		whole, cut := d.frame(t), d.l4()+at
		first, last := slices.Clone(whole[:cut]), append(slices.Clone(whole[:d.l4()]), whole[cut:]...)
		id := uint16(serial.Add(1))
		for i, frame := range [][]byte{first, last} {
			ip := frame[d.l3():]
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			binary.BigEndian.PutUint16(ip[4:], id)
			binary.BigEndian.PutUint16(ip[6:], []uint16{0x2000, uint16(at / 8)}[i])
			setIPv4Checksum(ip)
		}
		return [][]byte{first, last}
	}
}

// extension is a header of IPv6, of so many words, that says nothing.
func extension(kind byte, words int) (byte, []byte) {
	header := make([]byte, 8*words)
	header[1] = byte(words - 1)
	switch kind {
	case 0, 60: // one option, to be skipped (RFC 4727)
		header[2], header[3] = 0x1e, byte(len(header)-4)
	case 44:
		header[1] = 0
	}
	return kind, header
}

// withExtensions puts headers of these kinds, of so many words, in front of the UDP header.
func withExtensions(words int, kinds ...byte) func(testing.TB, datagram) [][]byte {
	return func(t testing.TB, d datagram) [][]byte {
		frame, next := d.frame(t), byte(17)
		for _, k := range slices.Backward(kinds) {
			kind, header := extension(k, words)
			header[0], next = next, kind
			frame = slices.Insert(frame, d.l4(), header...)
		}
		ip := frame[d.l3():]
		ip[6] = next
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		return [][]byte{frame}
	}
}

// inFragments6 cuts it behind so many bytes from the UDP header on, with headers of these kinds in front of the fragment header.
func inFragments6(at int, kinds ...byte) func(testing.TB, datagram) [][]byte {
	return func(t testing.TB, d datagram) [][]byte {
		whole := withExtensions(1, append(kinds, 44)...)(t, d)[0]
		l4 := d.l4() + 8*len(kinds) + 8
		first, last := slices.Clone(whole[:l4+at]), append(slices.Clone(whole[:l4]), whole[l4+at:]...)
		id := serial.Add(1)
		for i, frame := range [][]byte{first, last} {
			binary.BigEndian.PutUint16(frame[d.l3()+4:], uint16(len(frame)-d.l3()-40))
			fragment := frame[l4-8:]
			binary.BigEndian.PutUint16(fragment[2:], []uint16{1, uint16(at)}[i])
			binary.BigEndian.PutUint32(fragment[4:], id)
		}
		return [][]byte{first, last}
	}
}

// wrappings are the ways over IPv4 or IPv6.
func wrappings(v6 bool) []wrapping {
	if !v6 {
		return []wrapping{
			{name: "an option", reason: "ip_options", wrap: withOptions(1)},
			{name: "40 bytes of options", reason: "ip_options", wrap: withOptions(10)},
			{name: "fragments", reason: "fragment", wrap: inFragments4(72)},
			{name: "fragments, the first of 8 bytes", reason: "fragment", wrap: inFragments4(8), short: true},
		}
	}
	all := []wrapping{
		{name: "fragments", reason: "ipv6_extension", wrap: inFragments6(72)},
		{name: "fragments, the first of 8 bytes", reason: "ipv6_extension", wrap: inFragments6(8), short: true},
		{name: "fragments behind other headers", reason: "ipv6_extension", wrap: inFragments6(72, 0, 60, 43)},
		{name: "all headers", reason: "ipv6_extension", wrap: withExtensions(1, 0, 60, 43, 44, 60)},
		{name: "a long header", reason: "ipv6_extension", wrap: withExtensions(20, 60)},
		{name: "16 headers", reason: "ipv6_extension", wrap: withExtensions(1, bytes.Repeat([]byte{60}, 16)...)},
	}
	for _, kind := range []byte{0, 43, 44, 60} {
		all = append(all, wrapping{name: fmt.Sprint("header ", kind), reason: "ipv6_extension", wrap: withExtensions(1, kind)})
	}
	for _, kind := range []byte{50, 51, 135, 139, 140} {
		all = append(all, wrapping{name: fmt.Sprint("header ", kind), reason: "ipv6_extension", wrap: withExtensions(1, kind), unlike: true})
	}
	return all
}

// TestUnprovenWrapped sends datagrams with IP options, with extension headers and in fragments, when user space takes nothing more from unproven sources: those for us are
// challenged, with no more bytes than have come, or dropped, those of proven sources and what may be somebody else's pass.
func TestUnprovenWrapped(t *testing.T) {
	cpu := onCPU(t)
	c := limit.Config{Unproven: 1000, Exempt: oneEach.Exempt}
	p, s := limited(t, c)
	v := view(t, s)
	secret := limit.Config{Secret: asSecret}
	vote := []byte(strings.Replace(findNode, "9:find_node", "4:vote", 1))
	at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 6881) }
	for _, e := range []struct{ to, from, exempt, asked, proven, elsewhere, other netip.AddrPort }{
		{node4, asker4, at("198.18.99.1"), at("198.18.5.1"), at("198.18.5.2"), at("198.18.0.9"), netip.AddrPortFrom(node4.Addr(), 53)},
		{node6, asker6, at("2001:db8:0:99::1"), at("2001:db8:0:51::1"), at("2001:db8:0:52::1"), at("2001:db8:0:1::9"), netip.AddrPortFrom(node6.Addr(), 53)},
	} {
		must(t, p.Expect(e.asked.Addr()))
		must(t, p.Prove(e.proven.Addr()))
		for _, w := range wrappings(e.to.Addr().Is6()) {
			for _, tags := range [][]uint16{nil, {7}} {
				wrapped := func(to, from netip.AddrPort) [][]byte {
					d := queryTo(to, from, vote)
					d.vlans = tags
					return w.wrap(t, d)
				}
				for _, frame := range wrapped(e.to, e.from) {
					must(t, p.SetBudgets(0))
					expect(t, p, w.reason, w.name+", while the budget lasts", frame)
				}
				must(t, p.SetBudgets(usedUp))
				for i, frame := range wrapped(e.to, e.from) {
					if i > 0 || w.unlike {
						expect(t, p, w.reason, w.name+", which may be anybody's", frame)
						continue
					}
					if w.short {
						expect(t, p, "overloaded", w.name, frame)
						continue
					}
					d := queryTo(e.to, e.from, nil)
					d.vlans = tags
					verdict, out := run(t, p, frame)
					now, err := p.Clock(cpu)
					must(t, err)
					if want := d.answer(v.Challenge(nil, router.FamilyOf(e.from.Addr()), secret.Cookie(e.from, now))).frame(t); verdict != xdpTX || !bytes.Equal(out, want) {
						t.Errorf("%s: verdict %d\n got %x\nwant %x", w.name, verdict, out, want)
					}
				}
				for name, ends := range map[string][2]netip.AddrPort{
					"proven": {e.to, e.proven}, "asked": {e.to, e.asked}, "another port": {e.other, e.from}, "another address": {e.elsewhere, e.from},
				} {
					for _, frame := range wrapped(ends[0], ends[1]) {
						expect(t, p, w.reason, w.name+", "+name, frame)
					}
				}
				if w.unlike {
					continue
				}
				for _, from := range []netip.AddrPort{e.to, netip.AddrPortFrom(e.from.Addr(), 0)} {
					expect(t, p, "overloaded", w.name+", to nobody", wrapped(e.to, from)[0])
				}
				many := slices.Clone(wrapped(e.to, e.from)[0])
				many[0] |= 1
				expect(t, p, "overloaded", w.name+", for many", many)
				must(t, p.SetBudgets(0))
				must(t, p.SpendUnproven())
				expect(t, p, w.reason, w.name+", exempt, in a flood of others", wrapped(e.to, e.exempt)[0])
				must(t, p.SpendTrusted())
				expect(t, p, map[bool]string{false: "challenged", true: "overloaded"}[w.short], w.name+", exempt, in a flood of them", wrapped(e.to, e.exempt)[0])
			}
		}
	}
	must(t, p.SetBudgets(usedUp))
	for _, chain := range [][]byte{bytes.Repeat([]byte{60}, 17), bytes.Repeat([]byte{43}, 40)} { // which nobody sends, and none looks behind
		expect(t, p, "overloaded", "too many headers", withExtensions(1, chain...)(t, queryTo(node6, asker6, vote))[0])
	}
	expect(t, p, "ipv6_extension", "headers without an end", withExtensions(1, 60)(t, queryTo(node6, asker6, vote))[0][:14+40+8])
	must(t, p.Renew(0))
	for _, d := range []datagram{queryTo(node4, asker4, vote), queryTo(node6, asker6, vote)} {
		for _, w := range wrappings(d.to.Addr().Is6()) {
			expect(t, p, w.reason, w.name+", without a lease", w.wrap(t, d)[0])
		}
	}
	must(t, p.Renew(time.Hour))
}

// TestUnprovenUnanswerable sends datagrams that nobody can be answered, from nobody's address or port or in frames for many, and short ones whose headers do not agree on their length, when user space takes nothing more from
// unproven sources: those for us are dropped, others pass.
func TestUnprovenUnanswerable(t *testing.T) {
	p, _ := limited(t, limit.Config{Unproven: 1000})
	for _, e := range frames(t) {
		if e.reason != "bad_source" && e.reason != "not_unicast" && e.reason != "bad_length" {
			continue
		}
		must(t, p.SetBudgets(0))
		expect(t, p, e.reason, e.name+", while the budget lasts", e.frame)
		must(t, p.SetBudgets(usedUp))
		expect(t, p, "overloaded", e.name, e.frame)
	}
	for _, d := range []datagram{queryTo(netip.AddrPortFrom(node4.Addr(), 53), asker4, []byte(ping)), queryTo(netip.AddrPortFrom(node6.Addr(), 53), asker6, []byte(ping))} {
		d.from = netip.AddrPortFrom(d.from.Addr(), 0)
		expect(t, p, "not_ours", "to another port", d.frame(t))
		d.toMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		expect(t, p, "not_ours", "to another port, for many", d.frame(t))
	}
}

// TestLoopbackFrames has the frames of the loopback interface judged, which have no addresses: they are answered as others are, and what nobody can be answered is
// not held to the limits, because nobody but this machine has sent it.
func TestLoopbackFrames(t *testing.T) {
	p, _ := limited(t, limit.Config{Unproven: 1000})
	nobody := make(net.HardwareAddr, 6)
	for _, d := range []datagram{queryTo(node4, asker4, []byte(ping)), queryTo(node6, asker6, []byte(ping))} {
		must(t, p.SetBudgets(usedUp))
		d.fromMAC, d.toMAC = nobody, nobody
		expect(t, p, "answered/ping", "on the loopback interface", d.frame(t))
		d.from = netip.AddrPortFrom(d.to.Addr(), 7000)
		expect(t, p, "bad_source", "to itself, on the loopback interface", d.frame(t))
		d.toMAC = nodeMAC
		expect(t, p, "overloaded", "to itself, elsewhere", d.frame(t))
		d.fromMAC = nodeMAC
		expect(t, p, "overloaded", "to itself, from the same interface", d.frame(t))
	}
}

// addressedWire is a wire at whose one end the stack has the node's addresses.
func addressedWire(t *testing.T) (node, asker *netns.NS) {
	t.Helper()
	node, asker = wire(t)
	for _, a := range []netip.AddrPort{node4, node6} {
		must(t, node.IP("addr", "add", netip.PrefixFrom(a.Addr(), map[bool]int{true: 15, false: 32}[a.Addr().Is4()]).String(), "dev", "wire", "nodad"))
	}
	return node, asker
}

// A flood of broadcasts and multicasts from forged sources does not reach a program that hears what is for many at our port, once it has had what there is for such sources; it
// gets those of proven sources, and those to other ports.
func TestGroupFlood(t *testing.T) {
	const flood = 20
	onCPU(t) // frames keep their order
	node, asker := addressedWire(t)
	p, _ := limited(t, limit.Config{Unproven: 1000})
	fd, ifindex := packetSocket(t, asker), index(t, asker, "wire")
	attached(t, p, node, index(t, node, "wire"), bpf.ModeNative)
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, e := range []struct {
		network string
		proven  netip.AddrPort
		to      []string
	}{{"udp4", asker4, []string{"255.255.255.255", "198.19.255.255", "224.0.0.1"}}, {"udp6", asker6, []string{"ff02::1"}}} {
		var heard []*net.UDPConn
		for _, port := range []uint16{6881, 7000} {
			conn, err := in(node, func() (*net.UDPConn, error) { return net.ListenUDP(e.network, &net.UDPAddr{Port: int(port)}) })
			must(t, err)
			t.Cleanup(func() { must(t, conn.Close()) })
			heard = append(heard, conn)
		}
		must(t, p.Prove(e.proven.Addr()))
		for _, to := range e.to {
			for _, mac := range []net.HardwareAddr{everybody, nodeMAC} {
				if mac[0] != 0xff && netip.MustParseAddr(to).IsMulticast() {
					continue // the stack takes none in such a frame
				}
				send := func(port uint16, from netip.AddrPort, what string) {
					d := queryTo(netip.AddrPortFrom(netip.MustParseAddr(to), port), from, fmt.Appendf(nil, "%-100s", what))
					d.toMAC = mac
					must(t, unix.Sendto(fd, d.frame(t), 0, &unix.SockaddrLinklayer{Ifindex: ifindex}))
				}
				hear := func(conn *net.UDPConn, want string) {
					t.Helper()
					b := make([]byte, 2000)
					must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
					n, err := conn.Read(b)
					if got := strings.TrimSpace(string(b[:n])); err != nil || got != want {
						t.Fatalf("to %s, %v: got %q, %v, want %q", to, mac, got, err, want)
					}
				}
				forged := func(i int) netip.AddrPort {
					if e.proven.Addr().Is6() {
						return netip.AddrPortFrom(hostOf6(uint16(0x100+i), 1), 1024)
					}
					return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 3, byte(i + 1)}), 1024)
				}
				must(t, p.SetBudgets(0))
				send(6881, forged(0), "while the budget lasts")
				hear(heard[0], "while the budget lasts")
				must(t, p.SetBudgets(usedUp))
				for i := range flood {
					send(6881, forged(i), "forged")
					send(7000, forged(i), "of others")
				}
				send(6881, e.proven, "proven")
				hear(heard[0], "proven")
				for range flood {
					hear(heard[1], "of others")
				}
			}
		}
	}
}

// TestWrappedSourceLimit sends more datagrams with options, with extension headers and in fragments than a source may.
func TestWrappedSourceLimit(t *testing.T) {
	p, _ := limited(t, oneEach)
	for _, d := range []datagram{queryTo(node4, asker4, []byte(findNode)), queryTo(node6, asker6, []byte(findNode))} {
		must(t, p.ForgetSources())
		all := slices.DeleteFunc(wrappings(d.to.Addr().Is6()), func(w wrapping) bool { return w.unlike })
		for i := range 5 {
			w := all[i%len(all)]
			expect(t, p, w.reason, w.name+", within the burst", w.wrap(t, d)[0])
		}
		for _, w := range all {
			expect(t, p, "limited", w.name+", one too many", w.wrap(t, d)[0])
		}
		expect(t, p, "limited", "a plain one", d.frame(t))
	}
}

// A flood of datagrams with IP options, with extension headers, in fragments and from no port, from forged sources, does not reach the program at our port once it has had
// what there is for such sources; other programs get all of theirs, and it gets those of proven sources.
func TestWrappedFlood(t *testing.T) {
	const flood = 20
	onCPU(t) // frames keep their order
	node, asker := addressedWire(t)
	p, _ := limited(t, limit.Config{Unproven: 1000})
	fd, ifindex := packetSocket(t, asker), index(t, asker, "wire")
	listen := func(at netip.AddrPort) *net.UDPConn {
		conn, err := in(node, func() (*net.UDPConn, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)) })
		must(t, err)
		t.Cleanup(func() { must(t, conn.Close()) })
		return conn
	}
	send := func(w wrapping, to, from netip.AddrPort, what string) {
		for _, frame := range w.wrap(t, queryTo(to, from, fmt.Appendf(nil, "%-100s", w.name+", "+what))) {
			must(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifindex}))
		}
	}
	hear := func(conn *net.UDPConn, want string) {
		t.Helper()
		b := make([]byte, 2000)
		must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("%q does not come: %v", want, err)
		}
		if got := strings.TrimSpace(string(b[:n])); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	for _, e := range []struct{ to, other, proven netip.AddrPort }{
		{node4, netip.AddrPortFrom(node4.Addr(), 7000), asker4}, {node6, netip.AddrPortFrom(node6.Addr(), 7000), asker6},
	} {
		ours, theirs := listen(e.to), listen(e.other)
		must(t, p.Prove(e.proven.Addr()))
		forged := func(i int) netip.AddrPort {
			if e.to.Addr().Is6() {
				return netip.AddrPortFrom(hostOf6(uint16(0x100+i), 1), 1024)
			}
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 3, byte(i + 1)}), 1024)
		}
		for _, mode := range []bpf.Mode{bpf.ModeNative, bpf.ModeGeneric} {
			attached(t, p, node, index(t, node, "wire"), mode)
			fromNoPort := wrapping{name: "from no port", wrap: func(t testing.TB, d datagram) [][]byte {
				d.from = netip.AddrPortFrom(d.from.Addr(), 0)
				return [][]byte{d.frame(t)}
			}}
			toSpare := wrapping{name: "with bytes to spare", wrap: func(t testing.TB, d datagram) [][]byte {
				frame := append(d.frame(t), 0, 0, 0, 0)
				ip := frame[d.l3():]
				if d.to.Addr().Is6() {
					binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
				} else {
					binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
					setIPv4Checksum(ip)
				}
				return [][]byte{frame}
			}}
			for _, w := range append(wrappings(e.to.Addr().Is6()), fromNoPort, toSpare) {
				if w.unlike {
					continue
				}
				must(t, p.SetBudgets(0))
				send(w, e.to, forged(0), "while the budget lasts")
				hear(ours, w.name+", while the budget lasts")
				must(t, p.SetBudgets(usedUp))
				for i := range flood {
					send(w, e.to, forged(i), "forged")
					send(w, e.other, forged(i), "of others")
				}
				send(w, e.to, e.proven, "proven")
				hear(ours, w.name+", proven")
				for range flood {
					hear(theirs, w.name+", of others")
				}
			}
		}
	}
}

// packetSocket is a socket for whole frames in a namespace.
func packetSocket(t testing.TB, ns *netns.NS) int {
	t.Helper()
	fd, err := in(ns, func() (int, error) { return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	return fd
}
