package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/router/krpc"
)

// victims has others' addresses forged, as fast as pays most or as can be, and counts what comes back by the link: all that their owners
// would get, in bytes of UDP payload, and what the forger has sent for it. README.md says the same numbers.
func (r *floodRig) victims(t *testing.T) {
	const (
		length = 2 * time.Second
		slack  = 1.05 // for the time that sending takes
	)
	text := strings.Repeat("victim", 165)
	v := fmt.Appendf(nil, "%d:%s", len(text), text)
	r.store(t, v)()
	target := krpc.ImmutableTarget(v)
	get := forge("get of a large hot item", "d1:ad2:id20:abcdefghij01234567896:target20:"+string(target[:])+"e1:q3:get1:t2:aa1:y1:qe", false)
	get.padded = kind{value: len(v)}.reply() + 64 // a NIC's buffers have room for the reply
	find := forge("find_node for both families", "d1:ad2:id20:abcdefghij01234567896:target20:"+anyTarget+"4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe", false)
	find.padded = get.padded
	flood := func(kind forgery, victim func() netip.Addr, ways ...route) *flood {
		fl := newFlood(r.sock, []forgery{kind}, ways...)
		fl.source = func(bool) netip.Addr { return victim() }
		return fl
	}
	one := func(a string) func() netip.Addr {
		addr := netip.MustParseAddr(a)
		return func() netip.Addr { return addr }
	}
	serial := uint32(0)
	waitFor(t, "the item at the kernel half", func() bool {
		serial++
		fl := flood(get, one(fmt.Sprint("198.51.100.", serial%250)), r.routes[0])
		must(t, fl.paced(1000, 20*time.Millisecond))
		fl.end(t, r.routes[0])
		return fl.gotBytes > 1000*fl.got && fl.got > 0
	})
	network := func() netip.Addr { // each address of it is another source
		b := netip.MustParseAddr("2001:db8:ffff::1").As16()
		b[6], b[7] = byte(rand.Uint32()), byte(rand.Uint32())
		return netip.AddrFrom16(b)
	}
	everybody := newFlood(r.sock, nil, r.routes...)
	for _, c := range []struct {
		name   string
		kind   forgery
		rate   int // per second; 0: as fast as can be
		victim func() netip.Addr
		way    route
		factor float64 // at most so many times what was sent
		burst  int     // and at most so much more than was sent, at once,
		more   int     // and per second
	}{
		{"one who never showed where he is, an item", get, 180, one("203.0.113.9"), r.routes[0], 17.4, 512 << 10, 512 << 10},
		{"one who never showed where he is, find_node", find, 180, one("203.0.113.10"), r.routes[0], 6, 512 << 10, 512 << 10},
		{"one who never showed where he is, at any rate", get, 0, one("203.0.113.11"), r.routes[0], 0, 512 << 10, 512 << 10},
		{"a network, an item, at any rate", get, 0, network, r.routes[1], 0, 512 << 10, 512 << 10},
		{"everybody, find_node, at any rate", find, 0, func() netip.Addr { return everybody.forged(false, false) }, r.routes[0], 0, 512 << 10, 512 << 10},
		{"a node that is known here, an item", get, 180, one(lanAddrs[0].Addr().String()), r.routes[0], 17.4, 256 << 10, 50 << 10},
		{"a node that is known here, at any rate", get, 0, one(lanAddrs[0].Addr().String()), r.routes[0], 0, 256 << 10, 50 << 10},
	} {
		fl := flood(c.kind, c.victim, c.way)
		before, err := r.status()
		must(t, err)
		begin := time.Now()
		must(t, fl.paced(c.rate, length))
		fl.end(t, r.routes[0])
		elapsed := time.Since(begin)
		after, err := r.status()
		must(t, err)
		factor := float64(fl.gotBytes) / float64(fl.sentBytes)
		grown := fl.gotBytes - fl.sentBytes
		t.Logf("%s: %.2f times what was sent: %d bytes for %d, %.0f datagrams/s; kernel: %s", c.name, factor, fl.gotBytes, fl.sentBytes, float64(fl.sent)/elapsed.Seconds(), difference(before, after))
		if fl.got == 0 {
			t.Errorf("%s: nothing came back", c.name)
		}
		if c.factor > 0 && factor > c.factor {
			t.Errorf("%s: %.2f times what was sent, want at most %.1f", c.name, factor, c.factor)
		}
		if most := float64(c.burst) + float64(c.more)*elapsed.Seconds()*slack; float64(grown) > most {
			t.Errorf("%s: %d bytes more than was sent, want at most %.0f", c.name, grown, most)
		}
	}
}

// paced sends so many datagrams a second for a time, or as many as it can.
func (f *flood) paced(rate int, length time.Duration) error {
	if rate == 0 {
		return f.run(func(elapsed time.Duration) bool { return elapsed >= length })
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		elapsed := time.Since(begin)
		if due := int(elapsed.Seconds()*float64(rate)) - f.sent; due > 0 {
			f.queue(min(due, ringSize/4))
		}
		if err := f.sock.kick(); err != nil {
			return err
		}
		if f.collect(); elapsed >= length {
			return nil
		}
	}
}
