package nexthop_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"kdht/appliance/nexthop"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// state is what the changes so far amount to.
type state struct {
	routes     map[string]nexthop.Route
	neighbours map[string]string
	policy     bool
	changes    chan nexthop.Changes
}

// follow applies changes until want holds.
func (s *state) follow(t *testing.T, what string, want func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !want() {
		select {
		case c := <-s.changes:
			if c.All {
				s.policy, s.routes, s.neighbours = c.Policy, map[string]nexthop.Route{}, map[string]string{}
				for _, r := range c.Routes {
					s.routes[r.Prefix.String()] = r
				}
			}
			for _, n := range c.Neighbours {
				s.neighbours[fmt.Sprint(n.Addr, " ", n.Ifindex)] = net.HardwareAddr(n.MAC[:]).String()
			}
			for _, n := range c.Gone {
				delete(s.neighbours, fmt.Sprint(n.Addr, " ", n.Ifindex))
			}
		case <-deadline:
			t.Fatalf("%s: not so in time: routes %v, neighbours %v, policy %v", what, s.routes, s.neighbours, s.policy)
		}
	}
}

// TestWatcher follows a namespace through the changes that matter.
func TestWatcher(t *testing.T) {
	testenv.NeedNetNS(t)
	here, there := netns.New(t, "here"), netns.New(t, "there")
	const hereMAC, thereMAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
	const linkLocal = "fe80::ff:fe00:2" // there
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, p := range all {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	netns.Veth(t, netns.End{NS: here, Name: "w", MAC: hereMAC, Addrs: prefixes("198.18.0.1/24", "2001:db8::1/64")},
		netns.End{NS: there, Name: "w", MAC: thereMAC, Addrs: prefixes("198.18.0.2/24", "2001:db8::2/64")})
	var w *nexthop.Watcher
	index := 0
	if err := here.Do(func() (err error) {
		i, err := net.InterfaceByName("w")
		if err != nil {
			return err
		}
		index = i.Index
		w, err = nexthop.Open()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &state{changes: make(chan nexthop.Changes, 1000)}
	done := make(chan error)
	go func() { done <- w.Run(ctx, func(c nexthop.Changes) { s.changes <- c }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	is := func(prefix, gateway, source string) func() bool {
		want := nexthop.Route{Prefix: netip.MustParsePrefix(prefix), Ifindex: index}
		if gateway != "" {
			want.Gateway = netip.MustParseAddr(gateway)
		}
		if source != "" {
			want.Source = netip.MustParseAddr(source)
		}
		return func() bool { return s.routes[prefix] == want }
	}
	unusable := func(prefix string) func() bool {
		return func() bool { r, ok := s.routes[prefix]; return ok && r.Ifindex == 0 }
	}
	ip := func(args ...string) {
		t.Helper()
		if err := here.IP(args...); err != nil {
			t.Fatal(err)
		}
	}

	s.follow(t, "the link's own route", is("198.18.0.0/24", "", "198.18.0.1"))
	s.follow(t, "the link's own IPv6 route", is("2001:db8::/64", "", ""))
	s.follow(t, "our own address", unusable("198.18.0.1/32"))
	s.follow(t, "loopback", unusable("127.0.0.0/8"))
	ip("route", "add", "default", "via", "198.18.0.2", "metric", "100")
	s.follow(t, "a default route", is("0.0.0.0/0", "198.18.0.2", ""))
	ip("route", "add", "default", "via", "198.18.0.3", "metric", "50")
	s.follow(t, "a better one", is("0.0.0.0/0", "198.18.0.3", ""))
	ip("route", "del", "default", "via", "198.18.0.3")
	s.follow(t, "the first again", is("0.0.0.0/0", "198.18.0.2", ""))
	ip("-6", "route", "add", "default", "via", "2001:db8::2", "dev", "w", "src", "2001:db8::1")
	s.follow(t, "an IPv6 default route", is("::/0", "2001:db8::2", "2001:db8::1"))
	ip("route", "add", "blackhole", "203.0.113.0/24")
	s.follow(t, "a black hole", unusable("203.0.113.0/24"))
	ip("route", "add", "192.0.2.0/24", "nexthop", "via", "198.18.0.2", "nexthop", "via", "198.18.0.3")
	s.follow(t, "two next hops", unusable("192.0.2.0/24"))

	at := func(addr, mac string) func() bool {
		return func() bool { return s.neighbours[fmt.Sprint(addr, " ", index)] == mac }
	}
	if err := here.Do(func() error {
		for _, a := range []string{"198.18.0.2:9", "[2001:db8::2]:9", "[" + linkLocal + "%w]:9", "198.18.0.77:9"} {
			c, err := net.Dial("udp", a)
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			_ = c.Close()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.follow(t, "a neighbour that was resolved", at("198.18.0.2", thereMAC))
	s.follow(t, "an IPv6 neighbour that was resolved", at("2001:db8::2", thereMAC))
	s.follow(t, "a link-local neighbour that was resolved", at(linkLocal, thereMAC))
	ip("neigh", "replace", "198.18.0.9", "lladdr", "02:00:00:00:00:09", "dev", "w", "nud", "permanent")
	s.follow(t, "a permanent neighbour", at("198.18.0.9", "02:00:00:00:00:09"))
	ip("neigh", "replace", "198.18.0.9", "lladdr", "02:00:00:00:00:0a", "dev", "w", "nud", "permanent")
	s.follow(t, "another link address", at("198.18.0.9", "02:00:00:00:00:0a"))
	ip("neigh", "del", "198.18.0.9", "dev", "w")
	s.follow(t, "a neighbour that went", at("198.18.0.9", ""))
	if slices.ContainsFunc(slices.Collect(maps.Keys(s.neighbours)), func(k string) bool { return k == fmt.Sprint("198.18.0.77 ", index) }) {
		t.Error("a host that does not answer has a link address")
	}

	for addr, want := range map[string]string{
		"198.18.0.2": thereMAC, "::ffff:198.18.0.2": thereMAC, "2001:db8::2": thereMAC, // on the link
		"198.18.0.77": "", "198.18.0.1": "", "2001:db8::1": "", "127.0.0.1": "", // nobody, and ourselves
		"198.51.100.1": "", "2001:db8:1::1": "", "203.0.113.1": "", // behind a router, and nowhere
		linkLocal + "%w": thereMAC, linkLocal + "%" + strconv.Itoa(index): thereMAC, linkLocal: "", linkLocal + "%lo": "", linkLocal + "%no": "",
	} {
		if err := here.Do(func() error {
			mac, ok := nexthop.LinkAddress(netip.MustParseAddr(addr))
			if ok != (want != "") || ok && net.HardwareAddr(mac[:]).String() != want {
				t.Errorf("%s has the link address %x, %v; want %s", addr, mac, ok, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if mac, ok := nexthop.LinkAddress(netip.Addr{}); ok {
		t.Errorf("no address has the link address %x", mac)
	}

	ip("rule", "add", "from", "198.18.0.1", "table", "77")
	s.follow(t, "policy routing", func() bool { return s.policy && len(s.routes) == 0 })
	ip("rule", "del", "from", "198.18.0.1", "table", "77")
	s.follow(t, "none again", func() bool { return !s.policy && is("0.0.0.0/0", "198.18.0.2", "")() })
	ip("link", "set", "w", "down")
	s.follow(t, "an interface that goes down", func() bool { _, ok := s.routes["0.0.0.0/0"]; return !ok && at("198.18.0.2", "")() })
}
