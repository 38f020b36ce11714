package discover_test

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"kdht/appliance/discover"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// plugged makes nodes on a LAN, box N at 192.168.7.N and fd00:7::N, and starts them.
func plugged(t *testing.T, l *lan, from, count int, args ...string) (boxes []*box) {
	t.Helper()
	for n := from; n < from+count; n++ {
		b := newBox(t, fmt.Sprintf("box%d", n))
		l.plug(b.ns, "eth0", fmt.Sprintf("192.168.7.%d/24", n), fmt.Sprintf("fd00:7::%d/64", n))
		b.start(args...)
		boxes = append(boxes, b)
	}
	return boxes
}

// TestNames keeps networks of different names on one LAN apart.
func TestNames(t *testing.T) {
	testenv.NeedNetNS(t)
	l := newLAN(t)
	red := plugged(t, l, 1, 2, "--set", "networkName=red")
	blue := plugged(t, l, 3, 2, "--set", "networkName=blue")
	know(t, red...)
	know(t, blue...)
	for _, b := range append(red, blue...) {
		until(t, b.name+" hears the other network", func() bool { return event(b.report(), "neighbour of another network") > 0 })
		if found, good := len(neighbours(b.report())["eth0"]), b.good(); found != 1 || good != 1 {
			t.Errorf("%s has %d neighbours and %d contacts, want 1 of each", b.name, found, good)
		}
	}
}

// TestFirst starts a node alone, which is the first of its network, and another one much later; then the first leaves.
func TestFirst(t *testing.T) {
	testenv.NeedNetNS(t)
	l := newLAN(t)
	first := plugged(t, l, 1, 1)[0]
	until(t, "the first is ready", func() bool { return first.status().Ready })
	until(t, "its queries are rarer", func() bool { return event(first.report(), "query sent") >= 6 }) // three in each family
	second := plugged(t, l, 2, 1)[0]
	know(t, first, second)
	shares(t, first, second)

	first.proc.Signal(syscall.SIGTERM)
	<-first.proc.Done()
	// Its records would be good for two minutes more.
	until(t, "the first has said goodbye", func() bool { return len(neighbours(second.report())) == 0 })
	if !second.status().Ready {
		t.Error("the second is not ready any more")
	}
}

// TestMerge plugs two LANs together, on each of which there is a network already.
func TestMerge(t *testing.T) {
	testenv.NeedNetNS(t)
	left, right := newLAN(t), newLAN(t)
	ours, theirs := plugged(t, left, 1, 2), plugged(t, right, 3, 2)
	know(t, ours...)
	know(t, theirs...)
	target, err := ours[0].client("put", "before")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := theirs[0].client("get", target); err == nil {
		t.Fatalf("found %q, put in another network", got)
	}
	netns.Veth(t, netns.End{NS: left.ns, Name: "trunk"}, netns.End{NS: right.ns, Name: "trunk"})
	do(t, left.ns, "link set trunk master br0")
	do(t, right.ns, "link set trunk master br0")
	know(t, append(ours, theirs...)...)
	for _, b := range theirs {
		if got, err := b.client("get", target); err != nil || got != "before" {
			t.Errorf("%s gets %q, %v after the networks have become one", b.name, got, err)
		}
	}
	shares(t, theirs[1], ours[1])
}

// TestInterfaces changes the interfaces of a node that is on two LANs while it runs.
func TestInterfaces(t *testing.T) {
	testenv.NeedNetNS(t)
	l, other := newLAN(t), newLAN(t)
	peer, stranger, moving := newBox(t, "peer"), newBox(t, "stranger"), newBox(t, "moving")
	l.plug(peer.ns, "eth0", "192.168.7.1/24", "fd00:7::1/64")
	other.plug(stranger.ns, "eth0", "192.168.8.1/24", "fd00:8::1/64")
	moving.start() // without an interface
	peer.start()
	stranger.start()

	only := func(b *box, want ...string) func() bool {
		return func() bool {
			found := neighbours(b.report())["eth0"]
			return len(found) == 1 && fmt.Sprint(found[0].Addresses) == fmt.Sprint(want)
		}
	}
	l.plug(moving.ns, "eth0", "192.168.7.2/24", "fd00:7::2/64")
	other.plug(moving.ns, "eth1", "192.168.8.2/24", "fd00:8::2/64")
	until(t, "the peer sees one side", only(peer, "192.168.7.2:6881", "[fd00:7::2]:6881"))
	until(t, "the stranger sees the other", only(stranger, "192.168.8.2:6881", "[fd00:8::2]:6881"))
	until(t, "both are seen, each on its side", func() bool {
		n := neighbours(moving.report())
		return len(n["eth0"]) == 1 && len(n["eth1"]) == 1 && n["eth0"][0].Addresses[0] == netip.MustParseAddrPort("192.168.7.1:6881") &&
			n["eth1"][0].Addresses[0] == netip.MustParseAddrPort("192.168.8.1:6881")
	})

	do(t, moving.ns, "addr add 192.168.7.9/24 dev eth0", "addr del 192.168.7.2/24 dev eth0", "addr replace 192.168.7.9/24 dev eth0")
	until(t, "the peer sees the new address", only(peer, "192.168.7.9:6881", "[fd00:7::2]:6881"))

	do(t, moving.ns, "link set eth1 down")
	until(t, "an interface that is down has no neighbours", func() bool { return len(neighbours(moving.report())["eth1"]) == 0 })
	do(t, moving.ns, "link set eth1 up", "addr replace fd00:8::2/64 dev eth1 nodad")
	until(t, "they are back when it is up", func() bool { return len(neighbours(moving.report())["eth1"]) == 1 })

	do(t, moving.ns, "link del eth0")
	until(t, "an interface that is gone has no neighbours", func() bool {
		return len(neighbours(moving.report())["eth0"]) == 0 && len(neighbours(moving.report())["eth1"]) == 1
	})
	for _, b := range []*box{peer, stranger} {
		for _, i := range b.report().Interfaces {
			if i.Error != "" {
				t.Errorf("%s, %s: %s", b.name, i.Name, i.Error)
			}
		}
	}
}

// TestBound announces nothing but the address that the node listens on, and nothing where it has none.
func TestBound(t *testing.T) {
	testenv.NeedNetNS(t)
	l, other := newLAN(t), newLAN(t)
	peer, b := newBox(t, "peer"), newBox(t, "bound")
	l.plug(peer.ns, "eth0", "192.168.7.1/24")
	l.plug(b.ns, "eth0", "192.168.7.2/24", "192.168.7.3/24", "fd00:7::2/64")
	other.plug(b.ns, "eth1", "192.168.8.2/24")
	peer.start()
	b.start("--listen", "192.168.7.3:7000")
	until(t, "the peer sees it", func() bool {
		n := neighbours(peer.report())["eth0"]
		return len(n) == 1 && fmt.Sprint(n[0].Addresses) == "[192.168.7.3:7000]" && n[0].Contact
	})
	if r := b.report(); len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Service != discover.ServiceType {
		t.Errorf("it announces itself on %+v, want eth0 alone", r.Interfaces)
	}
}

// TestOff makes sure that public nodes neither announce nor look for anybody, unless told to.
func TestOff(t *testing.T) {
	testenv.NeedNetNS(t)
	l := newLAN(t)
	peer := newBox(t, "peer")
	l.plug(peer.ns, "eth0", "192.168.7.1/24", "2001:db8:7::1/64")
	peer.start("--network", "public", "--bootstrap", "none", "--set", "discovery=on")
	public, on := newBox(t, "public"), newBox(t, "on")
	l.plug(public.ns, "eth0", "192.168.7.2/24", "2001:db8:7::2/64")
	l.plug(on.ns, "eth0", "192.168.7.3/24", "2001:db8:7::3/64")
	public.start("--network", "public", "--bootstrap", "none")
	on.start("--network", "public", "--bootstrap", "none", "--set", "discovery=on")
	until(t, "the one that is told to is found, at its public address", func() bool {
		n := neighbours(peer.report())["eth0"]
		return len(n) == 1 && fmt.Sprint(n[0].Addresses) == "[[2001:db8:7::3]:6881]"
	})
	until(t, "the other serves", func() bool { return public.status().Ready })
	if s := public.status(); !strings.Contains(fmt.Sprint(s.Sections), "{Nodes on this LAN [{Discovery off, as this is no private network}]}") {
		t.Errorf("sections are %v", s.Sections)
	}
	if groups, err := public.ns.Output("cat", "/proc/net/igmp"); err != nil || len(groups) == 0 || strings.Contains(string(groups), "FB0000E0") {
		t.Errorf("the group of mDNS was joined: %s, %v", groups, err)
	}
}
