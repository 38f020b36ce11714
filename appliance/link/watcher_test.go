package link_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestRoles makes sure that what leads out of a machine is told from what leads to its own containers and virtual machines.
func TestRoles(t *testing.T) {
	testenv.NeedNetNS(t)
	ns, far := netns.New(t, "roles"), netns.New(t, "far")
	netns.Veth(t, netns.End{NS: ns, Name: "eth0"}, netns.End{NS: far, Name: "eth0"})
	for _, line := range []string{
		"link add br0 type bridge",
		"link set eth0 master br0",
		"link add link br0 name br0.7 type vlan id 7",
		"link add docker0 type bridge",
		"link add c0 type veth peer name c1",
		"link set c0 master docker0",
		"link add link docker0 name inner7 type vlan id 7",
		"link add dum0 type dummy",
		"tuntap add tap0 mode tap",
		"tuntap add tun0 mode tun",
		"link add vx0 type vxlan id 7 dstport 4789 dev eth0",
	} {
		if err := ns.IP(strings.Fields(line)...); err != nil {
			t.Logf("this kernel cannot: %v", err)
		}
	}
	want := map[string]link.Role{
		"eth0": link.Port, "br0": link.Upper, "br0.7": link.Upper, "docker0": link.Inner, "c0": link.Inner, "c1": link.Inner, "inner7": link.Inner,
		"dum0": link.Inner, "tap0": link.Inner, "tun0": link.Tunnel, "vx0": link.Tunnel, "lo": link.Inner,
	}
	var all []link.Link
	if err := ns.Do(func() (err error) { all, err = link.List(); return err }); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for i, role := range link.Roles(all) {
		if w, ok := want[all[i].Name]; ok {
			seen++
			if role != w {
				t.Errorf("%s has role %d, want %d: %+v", all[i].Name, role, w, all[i])
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d interfaces: %+v", seen, all)
	}
}

// TestRolesOfHardware: hardware is what the kernel says it is, and before Linux 5.14 what has no kind.
func TestRolesOfHardware(t *testing.T) {
	const ether, none, can = unix.ARPHRD_ETHER, unix.ARPHRD_NONE, unix.ARPHRD_CAN
	for name, c := range map[string]struct {
		l    link.Link
		want link.Role
	}{
		"network card":                      {link.Link{Device: "0000:00:1f.6", Type: ether}, link.Port},
		"port of a switch":                  {link.Link{Device: "mdio:00", Kind: "dsa", Type: ether}, link.Port},
		"modem":                             {link.Link{Device: "1-1:1.4", Kind: "wwan", Type: none, PointToPoint: true}, link.Port},
		"modem by PPP":                      {link.Link{Kind: "ppp", Type: unix.ARPHRD_PPP, PointToPoint: true}, link.Port},
		"CAN bus":                           {link.Link{Device: "1-2:1.0", Kind: "can", Type: can}, link.Inner},
		"of a program for virtual machines": {link.Link{Type: ether}, link.Upper},
		"WireGuard":                         {link.Link{Kind: "wireguard", Type: none, PointToPoint: true}, link.Tunnel},
		"a container's, seen by the host":   {link.Link{Kind: "veth", Type: ether, Elsewhere: true}, link.Inner},
		"bond of the card":                  {link.Link{Index: 7, Kind: "bond", Type: ether}, link.Upper},
	} {
		c.l.Index = 2
		card := link.Link{Index: 1, Name: "eth0", Device: "0000:00:1f.7", Type: ether, Master: 7}
		if c.l.Kind == "bond" {
			c.l.Index = 7
		}
		if got := link.Roles([]link.Link{card, c.l})[1]; got != c.want {
			t.Errorf("%s: role %d, want %d", name, got, c.want)
		}
	}
	old := []link.Link{{Index: 1, Type: ether}, {Index: 2, Type: ether, Kind: "veth"}, {Index: 3, Type: unix.ARPHRD_SIT}}
	if got := link.Roles(old); !slices.Equal(got, []link.Role{link.Port, link.Inner, link.Tunnel}) {
		t.Errorf("an old kernel's: %v", got)
	}
}
