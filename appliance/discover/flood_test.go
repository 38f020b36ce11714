package discover_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"kdht/appliance/discover"
	"kdht/bpf/testenv"
)

// forged returns the announcement of a node of the network.
func forged(t *testing.T, n int, addrs ...string) []byte {
	t.Helper()
	name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }
	service, host := name("_kdht._udp.local."), name(fmt.Sprintf("forged-%d.local.", n))
	instance := name(fmt.Sprintf("forged %d._kdht._udp.local.", n))
	head := func(name dnsmessage.Name) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 4_000_000}
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}, Answers: []dnsmessage.Resource{
		{Header: head(service), Body: &dnsmessage.PTRResource{PTR: instance}},
		{Header: head(instance), Body: &dnsmessage.SRVResource{Target: host, Port: uint16(1024 + n%60000)}},
		{Header: head(instance), Body: &dnsmessage.TXTResource{TXT: []string{"txtvers=1", "network=private", "name=kdht", "version=" + strings.Repeat("x", 200)}}},
	}}
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: head(host), Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()}})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// speak opens a socket in a namespace that sends to the group of mDNS.
func speak(t *testing.T, b *box, from string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	if err := b.ns.Do(func() (err error) {
		local := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
		c, err = net.DialUDP("udp4", local, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// resident returns how much of a process's own memory is resident, in bytes: not the pages of its files, of which the kernel maps as many
// at once as lie together in its cache.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, all, files int // pages, see proc_pid_statm(5)
	if _, err := fmt.Sscan(string(b), &size, &all, &files); err != nil {
		t.Fatal(err)
	}
	return (all - files) * os.Getpagesize()
}

// TestFlood has an attacker on the LAN announce thousands of nodes that are not: in other networks, at a host that
// is no node, and on no network. Memory, neighbours and what goes to the victim stay bounded, and the honest stay known.
func TestFlood(t *testing.T) {
	testenv.NeedNetNS(t)
	l := newLAN(t)
	boxes := plugged(t, l, 1, 2)
	know(t, boxes...)
	b := boxes[0]
	pid := b.status().PID
	const victim, outside = "192.168.7.200", "203.0.113.9"
	attacker, victimBox := newBox(t, "attacker"), newBox(t, "victim")
	var addrs []string
	for i := range 20 {
		addrs = append(addrs, fmt.Sprintf("192.168.7.%d/24", 100+i))
	}
	l.plug(attacker.ns, "eth0", append(addrs, "10.66.6.6/8")...)
	l.plug(victimBox.ns, "eth0", victim+"/24", outside+"/24")
	var hits atomic.Int64
	var raw net.PacketConn
	if err := victimBox.ns.Do(func() (err error) { raw, err = net.ListenPacket("ip4:udp", "0.0.0.0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := raw.ReadFrom(buf)
			if err != nil {
				return
			}
			if from.String() == "192.168.7.1" && n >= 8 && binary.BigEndian.Uint16(buf[2:]) != 5353 {
				hits.Add(1)
			}
		}
	}()

	var voices []*net.UDPConn
	for i := range 20 {
		voices = append(voices, speak(t, attacker, fmt.Sprintf("192.168.7.%d:5353", 100+i)))
	}
	stranger, wrongPort := speak(t, attacker, "10.66.6.6:5353"), speak(t, attacker, "192.168.7.100:5354")
	say := func(c *net.UDPConn, b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	round := func(count int) {
		for range count {
			sent++
			c := voices[sent%len(voices)]
			say(c, forged(t, sent, victim))
			say(c, forged(t, sent, outside, "10.66.6.6", "192.168.7.0", "192.168.7.255", "224.0.0.251", "127.0.0.1"))
			say(c, forged(t, sent, victim)[:90]) // cut off
			say(stranger, forged(t, sent, victim))
			say(wrongPort, forged(t, sent, victim))
		}
	}
	bounds := func(r discover.Report) bool {
		return event(r, "neighbour beyond the bounds") > 0 && event(r, "neighbour without an address on the link") > 0 &&
			event(r, "dropped, malformed") > 0 && event(r, "dropped, sender not on the link") > 0 && event(r, "dropped, response from another port") > 0
	}
	round(1000)
	until(t, "the flood is noticed", func() bool { round(10); return bounds(b.report()) })
	before := resident(t, pid)
	heard := func() (sum uint64) {
		r := b.report()
		return event(r, "neighbour beyond the bounds") + event(r, "neighbour without an address on the link")
	}
	until(t, "five thousand more were heard", func() bool { round(500); return heard() > 5000 })
	if grown := resident(t, pid) - before; grown > 8<<20 {
		t.Errorf("the process has grown by %d KiB in the flood", grown>>10)
	} else {
		t.Logf("%d announcements sent, %d refused, memory of its own %d KiB before and %+d KiB after", 5*sent, heard(), before>>10, grown>>10)
	}
	found := neighbours(b.report())["eth0"]
	if len(found) > 64 {
		t.Errorf("%d neighbours are remembered, want at most 64", len(found))
	}
	honest := false
	for _, n := range found {
		if honest = honest || n.Contact; len(n.Addresses) != 1 || strings.HasPrefix(n.Name, "forged") && n.Addresses[0].Addr() != netip.MustParseAddr(victim) {
			if strings.HasPrefix(n.Name, "forged") {
				t.Errorf("neighbour %+v", n)
			}
		}
	}
	if !honest {
		t.Error("the honest neighbour is forgotten")
	}
	// After 2, 4, 8 ... s, with a repetition each, for as long as the test may have taken.
	if n := hits.Load(); n == 0 || n > 14 {
		t.Errorf("%d datagrams went to the victim, want a few", n)
	}
	shares(t, boxes[0], boxes[1])
}
