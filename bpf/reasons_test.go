package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"

	"kdht/bpf"
)

const (
	anID     = "abcdefghij0123456789"
	aTarget  = "mnopqrstuvwxyz123456"
	ping     = "d1:ad2:id20:" + anID + "e1:q4:ping1:t2:aa1:y1:qe"
	findNode = "d1:ad2:id20:" + anID + "6:target20:" + aTarget + "e1:q9:find_node1:t2:aa1:y1:qe"
	getPeers = "d1:ad2:id20:" + anID + "9:info_hash20:" + aTarget + "e1:q9:get_peers1:t2:aa1:y1:qe"
	get      = "d1:ad2:id20:" + anID + "6:target20:" + aTarget + "e1:q3:get1:t2:aa1:y1:qe"
)

// exit is a frame that leaves the program for a reason.
type exit struct {
	reason string
	name   string
	frame  []byte
}

// mutate returns the frame of a ping with one change; at is relative to the IP header.
func mutate(t testing.TB, to, from netip.AddrPort, f func(d *datagram, ip []byte)) []byte {
	d := queryTo(to, from, []byte(ping))
	frame := d.frame(t)
	f(&d, frame[d.l3():])
	return frame
}

// setIPv4Checksum makes the checksum of a changed header right again.
func setIPv4Checksum(ip []byte) {
	binary.BigEndian.PutUint16(ip[10:], 0)
	sum := uint32(0)
	for i := 0; i < 4*int(ip[0]&15); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))
}

// frames are exits that depend on the headers: each is a ping that would be answered, with one change.
func frames(t testing.TB) (all []exit) {
	add := func(reason, name string, frame []byte) { all = append(all, exit{reason, name, frame}) }
	good4 := queryTo(node4, asker4, []byte(ping))
	good6 := queryTo(node6, asker6, []byte(ping))
	change4 := func(reason, name string, f func(ip []byte)) {
		add(reason, name, mutate(t, node4, asker4, func(_ *datagram, ip []byte) { f(ip) }))
	}
	change6 := func(reason, name string, f func(ip []byte)) {
		add(reason, name, mutate(t, node6, asker6, func(_ *datagram, ip []byte) { f(ip) }))
	}

	arp := good4.frame(t)
	arp[12], arp[13] = 8, 6
	add("not_ip", "ARP", arp)
	change4("not_udp", "TCP", func(ip []byte) { ip[9] = 6; setIPv4Checksum(ip) })
	change6("not_udp", "TCP over IPv6", func(ip []byte) { ip[6] = 6 })
	for _, to := range []string{"198.18.0.1:6882", "198.18.0.2:6881", "[2001:db8:0:1::1]:6817", "[2001:db8:0:1::2]:6881", "[2001:db8:0:2::1]:6881"} {
		d := good4
		if d.to = netip.MustParseAddrPort(to); d.to.Addr().Is6() {
			d.from = asker6
		}
		add("not_ours", to, d.frame(t))
	}
	for _, mac := range []net.HardwareAddr{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x33, 0x33, 0, 0, 0, 1}} {
		d := good4
		d.toMAC = mac
		add("not_unicast", mac.String(), d.frame(t))
		d = good6
		d.toMAC = mac
		add("not_unicast", mac.String()+" over IPv6", d.frame(t))
		d = good4
		d.fromMAC = mac
		add("not_unicast", "from "+mac.String(), d.frame(t))
	}
	for _, to := range []string{"255.255.255.255:6881", "224.0.0.1:6881", "198.19.255.255:6881", "[ff02::1]:6881", "[ff0e::1234:5678]:6881"} {
		d := good4
		if d.to = netip.MustParseAddrPort(to); d.to.Addr().Is6() {
			d.from = asker6
		}
		add("not_unicast", "to "+to, d.frame(t))
		d.toMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		add("not_unicast", "to everybody and "+to, d.frame(t))
		d.payload = nil
		add("not_unicast", "without data to "+to, d.frame(t))
		for _, port := range []uint16{5353, 6882, 23265} { // the last falls on the same bit as ours
			d.to = netip.AddrPortFrom(d.to.Addr(), port)
			add("not_ours", "to everybody and "+d.to.String(), d.frame(t))
		}
	}
	for _, to := range []string{"198.19.255.254:6881", "198.18.255.255:6881", "223.255.255.255:6881", "[fe80::1]:6881"} {
		d := good4
		if d.to = netip.MustParseAddrPort(to); d.to.Addr().Is6() {
			d.from = asker6
		}
		add("not_ours", "to "+to, d.frame(t))
	}
	own := good6
	own.fromMAC = own.toMAC
	add("bad_source", "from our own MAC address", own.frame(t))
	stack := good4
	stack.vlans = []uint16{1, 2}
	add("vlan_stack", "two tags", stack.frame(t))
	stack.vlans = []uint16{1, 2, 3}
	add("vlan_stack", "three tags", stack.frame(t))

	for _, d := range []datagram{good4, good6} {
		frame := d.frame(t)
		for _, n := range []int{14, 17, d.l3() + 1, d.l4() + 7, d.l4() + 8, len(frame) - 1} {
			add("truncated", fmt.Sprintf("%d of %d bytes to %v", n, len(frame), d.to), frame[:n:n])
		}
	}
	options := good4.frame(t)
	options = append(options[:34:34], append([]byte{1, 1, 1, 1}, options[34:]...)...)
	options[14] = 0x46
	add("ip_options", "four no-operations", options)
	change4("fragment", "first", func(ip []byte) { ip[6] = 0x20; setIPv4Checksum(ip) })
	change4("fragment", "later", func(ip []byte) { ip[7] = 1; setIPv4Checksum(ip) })
	for _, next := range []byte{0, 43, 44, 50, 51, 60, 135, 139, 140} {
		change6("ipv6_extension", fmt.Sprint(next), func(ip []byte) { ip[6] = next })
	}

	change4("bad_length", "IPv4 longer than UDP", func(ip []byte) { ip[3]++; setIPv4Checksum(ip) })
	change4("bad_length", "UDP longer than IPv4", func(ip []byte) { ip[20+5]++ })
	change6("bad_length", "IPv6 longer than UDP", func(ip []byte) { ip[5]++ })
	change6("bad_length", "UDP longer than IPv6", func(ip []byte) { ip[40+5]++ })
	change6("bad_length", "version 4 in an IPv6 frame", func(ip []byte) { ip[0] = 0x42 })
	change4("bad_ip_checksum", "one too much", func(ip []byte) { ip[11]++ })
	change4("bad_ip_checksum", "zero", func(ip []byte) { ip[10], ip[11] = 0, 0 })
	change4("bad_udp_checksum", "one too much", func(ip []byte) { ip[27]++ })
	change6("bad_udp_checksum", "one too much, IPv6", func(ip []byte) { ip[47]++ })
	change6("bad_udp_checksum", "zero over IPv6", func(ip []byte) { ip[46], ip[47] = 0, 0 })
	for i := range ping {
		at := i
		if i < 12 || i >= 32 {
			continue // where another byte is another message
		}
		change4("bad_udp_checksum", fmt.Sprintf("byte %d changed", i), func(ip []byte) { ip[28+at] ^= 1 })
		change6("bad_udp_checksum", fmt.Sprintf("byte %d changed, IPv6", i), func(ip []byte) { ip[48+at] ^= 1 })
	}
	for _, from := range []string{
		"0.0.0.0:6881", "0.1.2.3:6881", "127.0.0.1:6881", "224.0.0.1:6881", "239.1.2.3:6881", "240.0.0.1:6881",
		"255.255.255.255:6881", "198.18.0.1:6881", "198.18.0.1:6882", "198.18.7.9:0",
		"[::]:6881", "[::1]:6881", "[ff02::1]:6881", "[::ffff:198.18.7.9]:6881", "[2001:db8:0:1::1]:6882", "[2001:db8:0:7::9]:0",
	} {
		d := good4
		if d.from = netip.MustParseAddrPort(from); d.from.Addr().Is6() {
			d.to = node6
		}
		add("bad_source", from, d.frame(t))
	}
	for _, d := range []datagram{good4, good6} {
		for _, s := range []string{"", "d", "de", "d1:y1:qe", ping[:28]} {
			d.payload = []byte(s)
			add("too_short", fmt.Sprintf("%d bytes to %v", len(s), d.to), d.frame(t))
		}
		for _, n := range []int{505, 1000, 1400} {
			d.payload = []byte(strings.Replace(ping, "1:y", fmt.Sprintf("1:v%d:%s1:y", n-len(ping)-6-len(fmt.Sprint(n))+3, strings.Repeat("v", n)), 1))[:n]
			add("too_long", fmt.Sprintf("%d bytes to %v", n, d.to), d.frame(t))
		}
	}
	return all
}

// payloads are exits that depend on the payload.
var payloads = []struct{ reason, payload string }{
	{"malformed", "l" + ping[1:]},
	{"malformed", ping[:len(ping)-1]},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:t99:aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:t2;aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:t-1:a", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:t99999999999:aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa1:y1:q", "1:t9:aaaaaaaaa1:y", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:t2:aa1:xe", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:si-e1:t2:aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:sie1:t2:aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "1:si1x1:t2:aa", 1)},
	{"malformed", strings.Replace(ping, "1:t2:aa", "i1e1:a1:t2:aa", 1)},
	{"malformed", "d" + strings.Repeat("x", 60)},

	{"not_canonical", ping + "\n"},
	{"not_canonical", ping + "\x00\x00"},
	{"not_canonical", ping + ping},
	{"not_canonical", strings.Replace(ping, "1:t2:aa", "1:t02:aa", 1)},
	{"not_canonical", strings.Replace(ping, "1:t2:aa", "1:t2:aa1:t2:aa", 1)},
	{"not_canonical", strings.Replace(ping, "1:t2:aa1:y1:q", "1:y1:q1:t2:aa", 1)},
	{"not_canonical", strings.Replace(ping, "1:t2:aa", "2:roi1e2:rni1e1:t2:aa", 1)},
	{"not_canonical", strings.Replace(ping, "1:q4:ping", "1:q4:ping2:roi01e", 1)},
	{"not_canonical", strings.Replace(ping, "1:q4:ping", "1:q4:ping1:si-0e", 1)},
	{"not_canonical", strings.Replace(ping, "2:id20:"+anID, "2:id20:"+anID+"2:id20:"+anID, 1)},
	{"not_canonical", strings.Replace(findNode, "2:id20:"+anID+"6:target20:"+aTarget, "6:target20:"+aTarget+"2:id20:"+anID, 1)},
	{"not_canonical", strings.Replace(ping, "1:t2:aa", "1:sd1:bi1e1:ai1ee1:t2:aa", 1)},

	{"too_complex", strings.Replace(ping, "1:t2:aa", "1:s"+strings.Repeat("l", 8)+strings.Repeat("e", 8)+"1:t2:aa", 1)},
	{"too_complex", strings.Replace(ping, "1:t2:aa", "1:sl"+strings.Repeat("i1e", 80)+"e1:t2:aa", 1)},
	{"too_complex", strings.Replace(ping, "1:t2:aa", "17:ssssssssssssssssi1e1:t2:aa", 1)},
	{"too_complex", strings.Replace(ping, "1:t2:aa", "17:s0123456789abcdefi1e1:t2:aa", 1)},
	{"too_complex", strings.Replace(ping, "1:t2:aa", "1:si1234567890123456789e1:t2:aa", 1)},

	{"not_query", "d1:rd2:id20:" + anID + "e1:t2:aa1:v4:LT\x02\x081:y1:re"},
	{"not_query", "d2:ip6:zzzzpp1:rd2:id20:" + anID + "e1:t2:aa1:y1:re"},
	{"not_query", "d1:eli201e22:A Generic Error Occurred and more of ie1:t2:aa1:y1:ee"},
	{"not_query", strings.Replace(ping, "1:y1:q", "1:y1:r", 1)},
	{"not_query", strings.Replace(ping, "1:y1:q", "1:y2:qq", 1)},
	{"not_query", strings.Replace(ping, "1:t2:aa1:y1:q", "1:t7:aaaaaaa", 1)},

	{"bad_transaction", strings.Replace(ping, "1:t2:aa", "1:t0:1:v2:aa", 1)},
	{"bad_transaction", strings.Replace(ping, "1:t2:aa", "1:t21:aaaaaaaaaaaaaaaaaaaaa", 1)},
	{"bad_transaction", strings.Replace(ping, "1:t2:aa", "1:ti12345e", 1)},
	{"bad_transaction", strings.Replace(ping, "1:t2:aa", "1:v4:LT\x02\x08", 1)},

	{"other_method", strings.Replace(findNode, "9:find_node", "17:sample_infohashes", 1)},
	{"other_method", strings.Replace(findNode, "9:find_node", "4:vote", 1)},
	{"other_method", strings.Replace(ping, "4:ping1:t2:aa", "3:put1:t3:aaa", 1)},
	{"other_method", strings.Replace(ping, "4:ping", "4:pung", 1)},
	{"other_method", strings.Replace(findNode, "9:find_node", "9:find_nude", 1)},

	{"other_argument", strings.Replace(getPeers, "e1:q", "4:porti6881ee1:q", 1)},
	{"other_argument", strings.Replace(getPeers, "e1:q9:get_peers", "4:porti6881e5:token8:abcdefghe1:q13:announce_peer", 1)},
	{"other_argument", strings.Replace(get, "e1:q3:get", "5:token8:abcdefgh1:v5:helloe1:q3:put", 1)},
	{"other_argument", strings.Replace(get, "6:target", "1:k32:"+anID+"0123456789ab6:target", 1)},
	{"other_argument", strings.Replace(ping, "d2:id", "d3:casi1e2:id", 1)},

	{"bad_argument", strings.Replace(ping, "2:id20:"+anID, "2:id19:"+anID[1:]+"1:xi1e", 1)},
	{"bad_argument", strings.Replace(ping, "2:id20:"+anID, "2:id21:"+anID+"x", 1)},
	{"bad_argument", strings.Replace(ping, "2:id20:"+anID, "2:idi1e4:name20:"+anID, 1)},
	{"bad_argument", strings.Replace(findNode, "6:target20:"+aTarget, "6:target19:"+aTarget[1:], 1)},
	{"bad_argument", strings.Replace(getPeers, "9:info_hash20:"+aTarget, "9:info_hash32:"+aTarget+"0123456789ab", 1)},
	{"bad_argument", strings.Replace(getPeers, "e1:q", "6:target20:"+aTarget+"e1:q", 1)},
	{"bad_argument", strings.Replace(findNode, "e1:q", "4:want2:n4e1:q", 1)},
	{"bad_argument", strings.Replace(findNode, "e1:q", "4:wantli1eee1:q", 1)},
	{"bad_argument", strings.Replace(findNode, "e1:q", "4:wantll2:n4eee1:q", 1)},
	{"bad_argument", strings.Replace(getPeers, "e1:q", "6:noseed1:1e1:q", 1)},
	{"bad_argument", strings.Replace(getPeers, "e1:q", "6:scrapei2ee1:q", 1)},
	{"bad_argument", strings.Replace(getPeers, "e1:q", "4:namei2ee1:q", 1)},
	{"bad_argument", strings.Replace(get, "6:target", "3:seqi-1e6:target", 1)},
	{"bad_argument", strings.Replace(get, "6:target", "3:seq1:16:target", 1)},
	{"bad_argument", strings.Replace(ping, "1:t2:aa", "2:roi2e1:t2:aa", 1)},
	{"bad_argument", strings.Replace(ping, "1:t2:aa", "2:roi-1e1:t2:aa", 1)},
	{"bad_argument", strings.Replace(ping, "1:t2:aa", "2:ro1:11:t2:aa", 1)},
	{"bad_argument", strings.Replace(ping, "1:t2:aa", "1:t2:aa1:vi1e", 1)},
	{"bad_argument", "d1:ale1:q4:ping1:t20:aaaaaaaaaaaaaaaaaaaa1:v4:LT\x02\x081:y1:qe"},
	{"bad_argument", "d1:ad2:id20:" + anID + "e2:ipi1e1:q4:ping1:t2:aa1:y1:qe"},

	{"bad_argument", "d1:a0:1:q4:ping1:t20:aaaaaaaaaaaaaaaaaaaa1:v4:LT\x02\x081:y1:qe"},
	{"missing_argument", "d1:q4:ping1:t20:aaaaaaaaaaaaaaaaaaaa1:v10:0123456789" + "1:y1:qe"},
	{"missing_argument", "d1:ad2:id20:" + anID + "e1:t2:aa1:v4:LT\x02\x081:y1:qe"},
	{"missing_argument", "d1:ad6:target20:" + aTarget + "e1:q9:find_node1:t2:aa1:y1:qe"},
	{"missing_argument", strings.Replace(ping, "4:ping", "9:find_node", 1)},
	{"missing_argument", strings.Replace(ping, "4:ping", "9:get_peers", 1)},
	{"missing_argument", strings.Replace(ping, "4:ping1:t2:aa", "3:get1:t3:aaa", 1)},
	{"missing_argument", strings.Replace(getPeers, "9:get_peers", "9:find_node", 1)},
	{"missing_argument", strings.Replace(findNode, "9:find_node", "9:get_peers", 1)},

	{"answered/ping", ping},
	{"answered/find_node", findNode},
	{"answered/get_peers", getPeers},
	{"answered/get", get},
}

// expect runs a frame and fails unless exactly the counter of the reason moved, and a frame that passes did so as it
// came.
func expect(t testing.TB, p *bpf.Program, reason, name string, frame []byte) {
	t.Helper()
	before := counts(t, p)
	verdict, out := run(t, p, frame)
	after := counts(t, p)
	before[reason]++
	for k := range after {
		if strings.HasPrefix(k, "event/") {
			delete(before, k)
			delete(after, k)
		}
	}
	if !maps.Equal(before, after) {
		for k, n := range after {
			if n != before[k] {
				t.Errorf("%s (%s): counter %q is off by %d", name, reason, k, int64(n-before[k]))
			}
		}
	}
	if strings.HasPrefix(reason, "answered") || reason == "challenged" {
		if verdict != xdpTX {
			t.Errorf("%s (%s): verdict %d", name, reason, verdict)
		}
		return
	}
	if reason == "limited" || reason == "overloaded" || reason == "hop_late" {
		if verdict != xdpDrop {
			t.Errorf("%s (%s): verdict %d", name, reason, verdict)
		}
		return
	}
	if verdict != xdpPass || !bytes.Equal(frame, out) {
		t.Errorf("%s (%s): verdict %d, frame\n%x, was\n%x", name, reason, verdict, out, frame)
	}
}

// elsewhere are the reasons that need more than one frame: the tests that reach them.
var elsewhere = map[string]string{
	"no_lease":       "TestLease",
	"reply_too_long": "TestHotItems",

	"answered/hot_get":       "TestHotLife",
	"answered/hot_get_peers": "TestHotLife",
	"partial_checksum":       "TestGenericVariant",
	"no_snapshot":            "TestNoSnapshot",
	"held":                   "TestHeld",
	"held_overflow":          "TestHeldOverflow",
	"no_room":                "TestVeth",

	"recursion_begun":       "TestRecursionDifferential",
	"hop_followed":          "TestRecursionDifferential",
	"recursion_no_contact":  "TestRecursionReasons",
	"recursion_taken":       "TestRecursionDifferential",
	"hop_other_id":          "TestRecursionDifferential",
	"hop_limit":             "TestRecursionChain",
	"hop_ended":             "TestPathsDifferential",
	"recursion_full":        "TestRecursionBounds",
	"recursion_paced":       "TestPace, TestQueryBudget",
	"hop_paced":             "TestPacedReferral",
	"recursion_client_full": "TestRecursionBounds",
	"recursion_joined":      "TestRecursionReasons",
	"recursion_off":         "TestRecursionReasons",
	"recursion_argument":    "TestRecursionReasons",
	"no_route":              "TestRecursionReasons",
	"no_neighbour":          "TestRecursionReasons",
	"hop_answer":            "TestRecursionReasons",
	"hop_error":             "TestRecursionReasons",
	"hop_no_closer":         "TestRecursionReasons",
	"hop_late":              "TestRecursionReasons",
	"hop_taken":             "TestLateAnswers",
	"hop_other_source":      "TestRecursionReasons",
	"limited":               "TestSourceLimit",
	"challenged":            "TestChallenge",
	"overloaded":            "TestUnproven",
}

// TestReasons reaches every way out of the program, and checks that it is counted once and nothing else is.
func TestReasons(t *testing.T) {
	p := program(t, snapshot(rand.New(rand.NewPCG(4, 1)), 50, 50))
	reached := map[string]bool{}
	for _, e := range frames(t) {
		expect(t, p, e.reason, e.name, e.frame)
		reached[e.reason] = true
	}
	for _, e := range payloads {
		for _, d := range []datagram{queryTo(node4, asker4, []byte(e.payload)), queryTo(node6, asker6, []byte(e.payload))} {
			expect(t, p, e.reason, fmt.Sprintf("%q", e.payload), d.frame(t))
		}
		reached[e.reason] = true
	}
	for reason := range counts(t, p) {
		if !strings.HasPrefix(reason, "event/") && !reached[reason] && elsewhere[reason] == "" {
			t.Errorf("no test reaches %q", reason)
		}
	}
}
