package router_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/router"
)

// The host's own address is the one that its default route leaves from; of those of IPv6 the one that stays.
func TestHostAddr(t *testing.T) {
	testenv.NeedNetNS(t)
	host, far := netns.New(t, "host"), netns.New(t, "far")
	stable4, stable6 := netip.MustParseAddr("198.18.5.1"), netip.MustParseAddr("2001:db8:0:5::1")
	netns.Veth(t,
		netns.End{NS: host, Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(stable4, 24), netip.PrefixFrom(stable6, 64)}},
		netns.End{NS: far, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.5.2/24"), netip.MustParsePrefix("2001:db8:0:5::2/64")}})
	// do runs f on a thread in the namespace, which package net does not leave for a UDP socket.
	do := func(f func()) {
		t.Helper()
		if err := host.Do(func() error { f(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, want4, want6 netip.Addr) {
		t.Helper()
		do(func() {
			for f, want := range []netip.Addr{router.IPv4: want4, router.IPv6: want6} {
				if got := router.HostAddr(router.Family(f)); got != want {
					t.Errorf("%s: the address over %v is %v, want %v", when, router.Family(f), got, want)
				}
			}
		})
	}
	batch := func(lines ...string) {
		t.Helper()
		if err := host.Batch(lines...); err != nil {
			t.Fatal(err)
		}
	}
	want("without a default route", netip.Addr{}, netip.Addr{})
	batch("route add default via 198.18.5.2", "route add default via 2001:db8:0:5::2")
	want("with default routes", stable4, stable6)

	for key, value := range map[string]string{"use_tempaddr": "2", "dad_transmits": "0"} {
		if err := host.Sysctl("net.ipv6.conf.eth0."+key, value); err != nil {
			t.Fatal(err)
		}
	}
	batch("addr change 2001:db8:0:5::1/64 dev eth0 mngtmpaddr valid_lft 86400 preferred_lft 14400")
	for deadline := time.Now().Add(20 * time.Second); ; {
		var others netip.Addr // what a socket without wishes sends from
		do(func() {
			c, err := net.Dial("udp", "[2001:db8:0:5::2]:6881")
			if err != nil {
				t.Error(err)
				return
			}
			others = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		if others != stable6 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the host takes no temporary address")
		}
		time.Sleep(20 * time.Millisecond)
	}
	want("with a temporary address", stable4, stable6)

	// Sockets of the node send from there too.
	far6 := netip.MustParseAddrPort("[2001:db8:0:5::2]:6881")
	var conns [2][]router.Conn
	for i, ns := range []*netns.NS{host, far} {
		if err := ns.Do(func() (err error) {
			conns[i], err = router.Listen(t.Context(), netip.MustParseAddrPort("[::]:6881"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer conns[i][0].Close()
	}
	if _, err := conns[0][0].WriteBatch([]router.Packet{{Data: []byte("x"), Addr: far6}}); err != nil {
		t.Fatal(err)
	}
	in := []router.Packet{{Data: make([]byte, 100)}}
	if _, err := conns[1][0].ReadBatch(in); err != nil || in[0].Addr.Addr() != stable6 {
		t.Errorf("the node sends from %v, %v; want %v", in[0].Addr, err, stable6)
	}
}
