package conformance_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"kdht/appliance/fleet"
)

// frameCase is one or several frames with something odd about them.
type frameCase struct {
	name     string
	answered int    // how many answers there are to be
	reason   string // counter of the kernel half that moves
	stack    string // counter of the network stack or of user space that moves without kernel half
	frames   [][]byte
}

// testFrames sends frames that the kernel half, or the network stack, has to see through.
func testFrames(t *testing.T, p *pair) {
	for _, to := range []netip.AddrPort{node4, node6} {
		taps := [2]*tap{p.nodes[0].r.tap(t), p.nodes[1].r.tap(t)}
		p.clients(t, clientFor(to), to) // their ports are open, so that nothing is sent but answers
		cases := frames4()
		if to.Addr().Is6() {
			cases = frames6()
		}
		for _, c := range cases {
			if c.stack == "drop/malformed" {
				p.tally[c.stack]++
			}
			var answers [2][]seen
			for i, n := range p.nodes {
				answers[i] = n.try(t, fmt.Sprintf("%v: %s: --xdp %s", to, c.name, modes[i]), modes[i] != "off", taps[i], to, c)
			}
			for i := range min(len(answers[0]), len(answers[1])) {
				a, b := answers[0][i], answers[1][i]
				if a.from != to || b.from != to || a.to != b.to || !bytes.Equal(inOrder(a.payload), inOrder(b.payload)) {
					t.Errorf("%v: %s: the answers differ:\n%v\n%v", to, c.name, a, b)
				}
			}
		}
	}
}

// try sends the frames to one node, and makes sure that they are counted, by the kernel half if there is one.
func (n *node) try(t *testing.T, what string, kernel bool, tap *tap, to netip.AddrPort, c frameCase) []seen {
	t.Helper()
	all := func() counters {
		m := n.counters(t)
		if !kernel {
			maps.Copy(m, n.stackCounters(t))
		}
		return m
	}
	counter := c.stack
	if kernel {
		counter = "xdp/" + c.reason
	}
	before := all()
	answers, err := tap.exchange(to, c.answered, c.frames...)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if len(answers) != c.answered {
		t.Errorf("%s: %d answers, want %d: %v", what, len(answers), c.answered, answers)
	}
	if counter == uncounted {
		return answers
	}
	var d counters
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := fleet.Poll(ctx, pollEvery, func() (bool, error) { // what fails when it is sent is counted a little later
		d = all().since(before)
		return d[counter] > 0, nil
	}); err != nil {
		t.Errorf("%s: %s was not counted: %v", what, counter, moved(d))
	}
	return answers
}

// moved returns the counters that are not zero.
func moved(c counters) counters {
	d := counters{}
	for k, v := range c {
		if v != 0 {
			d[k] = v
		}
	}
	return d
}

// What is counted of a datagram that is no worse than any other, and of one that the network stack drops for its source
// or its option without a counter in the namespace.
const (
	received  = "query received/ping"
	uncounted = ""
)

// pinging is what the frames carry.
func pinging() []byte { return newQuery("ping").bytes() }

// pinger makes pings from one endpoint to another, with something odd about them.
type pinger struct{ from, to netip.AddrPort }

func (p pinger) intact() *frame { return newFrame(p.from, p.to, pinging()) }

// changed is a frame with f done to its bytes.
func (p pinger) changed(f func(b []byte)) [][]byte {
	b := p.intact().bytes()
	f(b)
	return [][]byte{b}
}

// with is a frame with f done before it is laid out.
func (p pinger) with(f func(*frame)) [][]byte {
	x := p.intact()
	f(x)
	return [][]byte{x.bytes()}
}

// source is a frame from another address.
func (p pinger) source(a string) [][]byte {
	p.from = netip.AddrPortFrom(netip.MustParseAddr(a), p.from.Port())
	return [][]byte{p.intact().bytes()}
}

// dest is a frame to another address, and MAC address.
func (p pinger) dest(a, mac string) [][]byte {
	p.to = netip.AddrPortFrom(netip.MustParseAddr(a), p.to.Port())
	return p.with(func(f *frame) { f.eth.DstMAC = []byte(mac) })
}

// ports is a frame from and to other ports.
func (p pinger) ports(from, to uint16) [][]byte {
	return [][]byte{pinger{netip.AddrPortFrom(p.from.Addr(), from), netip.AddrPortFrom(p.to.Addr(), to)}.intact().bytes()}
}

func frames4() []frameCase {
	p := pinger{netip.AddrPortFrom(client4, clientPort), node4}
	one, with, source, dest := p.changed, p.with, p.source, p.dest
	ip := func(f func(ip []byte)) [][]byte { return one(func(b []byte) { f(l3(b)); sum4(b) }) }
	option := func(o layers.IPv4Option) [][]byte {
		return with(func(f *frame) { f.ip4.Options = append(f.ip4.Options, o) })
	}
	fr := p.intact().fragments
	a, b := fr(1, 32), fr(2, 8)
	overlap := fr(4, 32)
	overlap[1] = fr(4, 24)[1]
	return []frameCase{
		{"intact", 1, "answered", received, with(func(*frame) {})},
		{"two fragments", 1, "fragment", "Ip.ReasmOKs", a},
		{"the second fragment first", 1, "fragment", "Ip.ReasmOKs", [][]byte{fr(3, 32)[1], fr(3, 32)[0]}},
		{"a fragment with nothing but the UDP header", 1, "fragment", "Ip.ReasmOKs", b},
		{"overlapping fragments", 0, "fragment", "Ip.ReasmReqds", overlap},
		{"a first fragment alone", 0, "fragment", "Ip.ReasmReqds", fr(5, 32)[:1]},
		{"a last fragment alone", 0, "fragment", "Ip.ReasmReqds", fr(6, 32)[1:]},
		{"option NOP", 1, "ip_options", received, option(layers.IPv4Option{OptionType: 1})},
		{"option router alert", 1, "ip_options", received, option(layers.IPv4Option{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}})},
		{"option record route", 1, "ip_options", received, option(layers.IPv4Option{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}})},
		{"option loose source route", 0, "ip_options", uncounted, option(layers.IPv4Option{OptionType: 131, OptionLength: 7, OptionData: []byte{8, 198, 18, 0, 9}})},
		{"option without end", 0, "ip_options", "Ip.InHdrErrors", option(layers.IPv4Option{OptionType: 7, OptionLength: 7, OptionData: []byte{1, 0, 0, 0, 0}})},
		{"wrong IP checksum", 0, "bad_ip_checksum", "Ip.InHdrErrors", one(func(b []byte) { l3(b)[10] ^= 0x40 })},
		{"wrong UDP checksum", 0, "bad_udp_checksum", "Udp.InCsumErrors", one(func(b []byte) { l4(b)[6] ^= 0x40 })},
		{"wrong payload", 0, "bad_udp_checksum", "Udp.InCsumErrors", one(func(b []byte) { l4(b)[30] ^= 0x40 })},
		{"no UDP checksum", 1, "answered", received, one(func(b []byte) { l4(b)[6], l4(b)[7] = 0, 0 })},
		{"IP version 5", 0, "ip_options", "Ip.InHdrErrors", ip(func(ip []byte) { ip[0] = 0x55 })},
		{"IP header of 16 bytes", 0, "ip_options", "Ip.InHdrErrors", ip(func(ip []byte) { ip[0] = 0x44 })},
		{"IP header of 60 bytes", 0, "ip_options", "Ip.InHdrErrors", ip(func(ip []byte) { ip[0] = 0x4f })},
		{"IP length beyond the frame", 0, "bad_length", "IpExt.InTruncatedPkts", ip(func(ip []byte) { ip[3] += 4 })},
		{"IP length too short", 0, "bad_length", "Udp.InErrors", ip(func(ip []byte) { ip[3] -= 4 })},
		{"IP length of less than a header", 0, "bad_length", "Ip.InHdrErrors", ip(func(ip []byte) { ip[2], ip[3] = 0, 19 })},
		{"UDP length beyond the frame", 0, "bad_length", "Udp.InErrors", one(func(b []byte) { l4(b)[5] += 4 })},
		{"UDP length of 7", 0, "bad_length", "Udp.InErrors", one(func(b []byte) { l4(b)[4], l4(b)[5] = 0, 7 })},
		{"UDP length too short", 0, "bad_length", "drop/malformed", one(func(b []byte) { l4(b)[5] -= 4; l4(b)[6], l4(b)[7] = 0, 0 })},
		{"both lengths beyond the frame", 0, "truncated", "IpExt.InTruncatedPkts", one(func(b []byte) { l4(b)[5] += 4; l3(b)[3] += 4; sum4(b) })},
		{"a trailer", 1, "answered", received, [][]byte{append(p.intact().bytes(), make([]byte, 50)...)}},
		{"time to live 0", 1, "answered", received, ip(func(ip []byte) { ip[8] = 0 })},
		{"the reserved flag", 1, "answered", received, ip(func(ip []byte) { ip[6] |= 0x80 })},
		{"source port 0", 0, "bad_source", "drop/impossible source", p.ports(0, p.to.Port())},
		{"source 0.0.0.0", 0, "bad_source", "rt_cache.in_martian_src", source("0.0.0.0")},
		{"source 127.0.0.1", 0, "bad_source", "rt_cache.in_martian_src", source("127.0.0.1")},
		{"source 224.0.0.1", 0, "bad_source", "rt_cache.in_martian_src", source("224.0.0.1")},
		{"source 255.255.255.255", 0, "bad_source", "rt_cache.in_martian_src", source("255.255.255.255")},
		{"source of the node itself", 0, "bad_source", "rt_cache.in_martian_src", source(node4.Addr().String())},
		{"source of a broadcast", 0, "not_canonical", "drop/reply not sent", [][]byte{newFrame(netip.MustParseAddrPort("198.18.0.255:51413"), p.to, mark("bc")).bytes()}},
		{"limited broadcast", 0, "not_unicast", "drop/not unicast", dest("255.255.255.255", "\xff\xff\xff\xff\xff\xff")},
		{"broadcast", 0, "not_unicast", "drop/not unicast", dest("198.18.0.255", "\xff\xff\xff\xff\xff\xff")},
		{"multicast", 0, "not_unicast", "drop/not unicast", dest("224.0.0.1", "\x01\x00\x5e\x00\x00\x01")},
		{"broadcast in a frame for one", 0, "not_unicast", "drop/not unicast", dest("198.18.0.255", "\x02\x00\x00\x00\x00\x01")},
		{"another address", 0, "not_ours", "Ip.InAddrErrors", dest("198.18.0.77", "\x02\x00\x00\x00\x00\x01")},
		{"another port", 0, "not_ours", "Udp.NoPorts", p.ports(clientPort, 6882)},
	}
}

func frames6() []frameCase {
	p := pinger{netip.AddrPortFrom(client6, clientPort), node6}
	one, with, source, dest := p.changed, p.with, p.source, p.dest
	header := func(proto layers.IPProtocol, body ...byte) [][]byte {
		return with(func(f *frame) {
			f.ip6.NextHeader = proto
			f.ext = []gopacket.SerializableLayer{gopacket.Payload(append([]byte{byte(layers.IPProtocolUDP), 0}, body...))}
		})
	}
	fr := p.intact().fragments
	overlap := fr(14, 32)
	overlap[1] = fr(14, 24)[1]
	length := func(at, by int) [][]byte {
		return one(func(b []byte) {
			p := b[at:]
			binary.BigEndian.PutUint16(p, uint16(int(binary.BigEndian.Uint16(p))+by))
		})
	}
	const ipLen, udpLength = ethLen + 4, ethLen + ip6Len + 4
	return []frameCase{
		{"intact", 1, "answered", received, with(func(*frame) {})},
		{"two fragments", 1, "ipv6_extension", "Ip6ReasmOKs", fr(11, 32)},
		{"the second fragment first", 1, "ipv6_extension", "Ip6ReasmOKs", [][]byte{fr(12, 32)[1], fr(12, 32)[0]}},
		{"a fragment with nothing but the UDP header", 1, "ipv6_extension", "Ip6ReasmOKs", fr(13, 8)},
		{"overlapping fragments", 0, "ipv6_extension", "Ip6ReasmFails", overlap},
		{"a first fragment alone", 0, "ipv6_extension", "Ip6ReasmReqds", fr(15, 32)[:1]},
		{"a last fragment alone", 0, "ipv6_extension", "Ip6ReasmReqds", fr(16, 32)[1:]},
		{"an atomic fragment", 1, "ipv6_extension", received, header(layers.IPProtocolIPv6Fragment, 0, 0, 0, 0, 0, 9)},
		{"hop-by-hop options", 1, "ipv6_extension", received, header(layers.IPProtocolIPv6HopByHop, 1, 4, 0, 0, 0, 0)},
		{"destination options", 1, "ipv6_extension", received, header(layers.IPProtocolIPv6Destination, 1, 4, 0, 0, 0, 0)},
		{"an unknown option to be skipped", 1, "ipv6_extension", received, header(layers.IPProtocolIPv6Destination, 0x1e, 4, 0, 0, 0, 0)},
		{"an unknown option to be discarded for", 0, "ipv6_extension", "Ip6InHdrErrors", header(layers.IPProtocolIPv6Destination, 0x5e, 4, 0, 0, 0, 0)},
		{"an option without end", 0, "ipv6_extension", "Ip6InHdrErrors", header(layers.IPProtocolIPv6Destination, 1, 200, 0, 0, 0, 0)},
		{"a routing header to go on with", 0, "ipv6_extension", "Ip6InHdrErrors", header(layers.IPProtocolIPv6Routing, 0, 1, 0, 0, 0, 0)},
		{"a routing header at its end", 1, "ipv6_extension", received, header(layers.IPProtocolIPv6Routing, 0, 0, 0, 0, 0, 0)},
		{"an unknown header", 0, "not_udp", "Ip6InUnknownProtos", header(253, 0, 0, 0, 0, 0, 0)},
		{"wrong UDP checksum", 0, "bad_udp_checksum", "Udp6InCsumErrors", one(func(b []byte) { l4(b)[6] ^= 0x40 })},
		{"wrong payload", 0, "bad_udp_checksum", "Udp6InCsumErrors", one(func(b []byte) { l4(b)[30] ^= 0x40 })},
		{"no UDP checksum", 0, "bad_udp_checksum", "Udp6InCsumErrors", one(func(b []byte) { l4(b)[6], l4(b)[7] = 0, 0 })},
		{"IP version 5", 0, "bad_length", "Ip6InHdrErrors", one(func(b []byte) { l3(b)[0] = 0x50 })},
		{"IP length beyond the frame", 0, "bad_length", "Ip6InTruncatedPkts", length(ipLen, 4)},
		{"IP length too short", 0, "bad_length", "Udp6InErrors", length(ipLen, -4)},
		{"IP length 0", 0, "bad_length", "Udp6InErrors", one(func(b []byte) { b[ipLen], b[ipLen+1] = 0, 0 })},
		{"UDP length beyond the frame", 0, "bad_length", "Udp6InErrors", length(udpLength, 4)},
		{"UDP length of 7", 0, "bad_length", "Udp6InErrors", one(func(b []byte) { b[udpLength], b[udpLength+1] = 0, 7 })},
		{"a trailer", 1, "answered", received, [][]byte{append(p.intact().bytes(), make([]byte, 50)...)}},
		{"hop limit 0", 1, "answered", received, with(func(f *frame) { f.ip6.HopLimit = 0 })},
		{"source port 0", 0, "bad_source", "drop/impossible source", p.ports(0, p.to.Port())},
		{"source ::", 0, "bad_source", "drop/impossible source", source("::")},
		{"source ::1", 0, "bad_source", "Ip6InHdrErrors", source("::1")},
		{"source ff02::1", 0, "bad_source", "Ip6InHdrErrors", source("ff02::1")},
		{"source ::ffff:198.18.0.2", 0, "bad_source", "drop/impossible source", source("::ffff:198.18.0.2")},
		// The stack cannot tell it from a client on the same host, and so the node answers itself.
		{"source of the node itself", 0, "bad_source", received, source(node6.Addr().String())},
		{"all nodes", 0, "not_unicast", "drop/not unicast", dest("ff02::1", "\x33\x33\x00\x00\x00\x01")},
		{"all nodes in a frame for one", 0, "not_unicast", "drop/not unicast", dest("ff02::1", "\x02\x00\x00\x00\x00\x01")},
		{"another address", 0, "not_ours", "Ip6InAddrErrors", dest("2001:db8:0:1::77", "\x02\x00\x00\x00\x00\x01")},
	}
}
