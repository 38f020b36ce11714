package link_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/appliance/link"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// watch follows the links of a namespace. The function it returns waits until ok holds for them.
func watch(t *testing.T, ns *netns.NS) (until func(what string, ok func([]link.Link) bool) []link.Link) {
	t.Helper()
	var w *link.Watcher
	if err := ns.Do(func() (err error) { w, err = link.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	states, ended := make(chan []link.Link), make(chan error, 1)
	go func() {
		ended <- w.Run(ctx, func(links []link.Link) {
			select {
			case states <- links:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil after its context ended", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return func(what string, ok func([]link.Link) bool) []link.Link {
		t.Helper()
		timeout := time.After(10 * time.Second)
		var last []link.Link
		for {
			select {
			case last = <-states:
				if ok(last) {
					return last
				}
			case <-timeout:
				t.Fatalf("%s: did not happen; last state %+v", what, last)
			}
		}
	}
}

func find(links []link.Link, name string) *link.Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}

func ip(t *testing.T, ns *netns.NS, command string) {
	t.Helper()
	if err := ns.IP(strings.Fields(command)...); err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestLinksComeChangeAndGo(t *testing.T) {
	testenv.NeedNetNS(t)
	ns := netns.New(t, "link")
	until := watch(t, ns)
	until("loopback", func(ls []link.Link) bool {
		lo := find(ls, "lo")
		return len(ls) == 1 && lo != nil && lo.Loopback && lo.Up &&
			slices.Equal(lo.Addrs, []netip.Addr{addr("127.0.0.1"), addr("::1")})
	})

	ip(t, ns, "link add eth0 address 02:00:00:00:00:07 mtu 1400 type veth peer name far0")
	ls := until("a new pair, down", func(ls []link.Link) bool { return find(ls, "eth0") != nil && find(ls, "far0") != nil })
	l := *find(ls, "eth0")
	if l.Kind != "veth" || l.Driver != "veth" || l.MTU != 1400 || l.Up || l.MAC != [6]byte{2, 0, 0, 0, 0, 7} || l.Unsuitable() != "it is down" {
		t.Errorf("new link: %+v, unsuitable %q", l, l.Unsuitable())
	}

	ip(t, ns, "link set far0 up")
	ip(t, ns, "link set eth0 up")
	ip(t, ns, "addr add 198.18.0.1/24 dev eth0")
	ip(t, ns, "addr add 2001:db8:0:1::1/64 dev eth0 nodad")
	until("up with addresses", func(ls []link.Link) bool {
		l := find(ls, "eth0")
		return l.Up && l.Carrier && l.Unsuitable() == "" && l.Multicast && !l.PointToPoint && slices.Contains(l.Addrs, addr("198.18.0.1")) &&
			slices.Contains(l.Prefixes, netip.MustParsePrefix("198.18.0.1/24")) && slices.Contains(l.Prefixes, netip.MustParsePrefix("2001:db8:0:1::1/64")) &&
			slices.Contains(l.Addrs, addr("2001:db8:0:1::1"))
	})

	ip(t, ns, "addr del 198.18.0.1/24 dev eth0")
	until("address gone", func(ls []link.Link) bool { return !slices.Contains(find(ls, "eth0").Addrs, addr("198.18.0.1")) })

	ip(t, ns, "link set eth0 name wan0")
	renamed := until("renamed", func(ls []link.Link) bool { return find(ls, "wan0") != nil && find(ls, "eth0") == nil })
	if r := find(renamed, "wan0"); r.Index != l.Index || r.Generation != l.Generation {
		t.Errorf("renamed link is %+v, want index %d and generation %d as before", r, l.Index, l.Generation)
	}

	ip(t, ns, "link set wan0 mtu 1300")
	until("another MTU", func(ls []link.Link) bool { return find(ls, "wan0").MTU == 1300 })
	ip(t, ns, "link set far0 down")
	until("no carrier", func(ls []link.Link) bool { l := find(ls, "wan0"); return l.Up && !l.Carrier })

	ip(t, ns, "link del wan0")
	until("gone", func(ls []link.Link) bool { return len(ls) == 1 })
}

// TestIndexReuse replaces a link by another of the same index and name.
func TestIndexReuse(t *testing.T) {
	testenv.NeedNetNS(t)
	ns := netns.New(t, "reuse")
	until := watch(t, ns)
	const add = "link add name eth0 index 77 type veth peer name far0"
	ip(t, ns, add)
	before := *find(until("first", func(ls []link.Link) bool { return find(ls, "eth0") != nil }), "eth0")
	if err := ns.Batch("link del eth0", add); err != nil {
		t.Fatal(err)
	}
	until("second", func(ls []link.Link) bool {
		l := find(ls, "eth0")
		return l != nil && l.Index == 77 && l.Generation != before.Generation
	})
}

// TestOverrun lets more notifications pile up than the socket has room for.
func TestOverrun(t *testing.T) {
	testenv.NeedNetNS(t)
	ns := netns.New(t, "overrun")
	var w *link.Watcher
	if err := ns.Do(func() (err error) { w, err = link.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lines := []string{"link add eth0 type bridge"}
	for range 1500 { // about 1.5 KiB per notification
		lines = append(lines, "link set eth0 up", "link set eth0 down")
	}
	if err := ns.Batch(append(lines, "link set eth0 name last")...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var first, overrun bool
	err := w.Run(ctx, func(ls []link.Link) {
		l := find(ls, "last")
		if l == nil {
			return
		}
		first = true
		if l.Generation > 1<<31 { // notifications were lost: everything is new
			overrun = true
			cancel()
		}
	})
	if err != nil || !first || !overrun {
		t.Errorf("Run = %v, link seen %v, overrun noticed %v", err, first, overrun)
	}
}

func TestUnsuitable(t *testing.T) {
	testenv.NeedNetNS(t)
	ns := netns.New(t, "kinds")
	for _, line := range []string{
		"link add veth0 type veth peer name far0",
		"link add br0 type bridge",
		"link add port0 type veth peer name far1",
		"link set port0 master br0",
		"link add dum0 type dummy",
		"link add vrf0 type vrf table 7",
		"link add member0 type veth peer name far2",
		"link set member0 master vrf0",
		"tuntap add tap0 mode tap",
		"tuntap add tun0 mode tun",
		"link add link veth0 name vlan0 type vlan id 7",
	} {
		if err := ns.IP(strings.Fields(line)...); err != nil {
			t.Logf("this kernel cannot: %v", err)
		}
	}
	want := map[string]string{
		"lo": "loopback", "veth0": "", "br0": "bridge", "port0": "port of a bridge", "dum0": "dummy", "vrf0": "Ethernet",
		"member0": "", "tap0": "tun", "tun0": "Ethernet", "vlan0": "vlan",
	}
	var links []link.Link
	if err := ns.Do(func() (err error) {
		for name := range want {
			_ = ns.IP("link", "set", name, "up")
		}
		links, err = link.List()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		reason, ok := want[l.Name]
		if !ok {
			continue
		}
		if got := l.Unsuitable(); (reason == "") != (got == "") || !strings.Contains(got, reason) {
			t.Errorf("%s: unsuitable because %q, want %q", l.Name, got, reason)
		}
	}
}
