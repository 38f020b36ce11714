package tailnet_test

import (
	"net/netip"
	"testing"

	"kdht/appliance/tailnet"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// TestTrusted has a host with an interface to a tailnet, and one to a provider that has its customers behind NAT: only what comes to
// the address in the tailnet is from a client there.
func TestTrusted(t *testing.T) {
	testenv.NeedRoot(t)
	ns := netns.New(t, "tailnet")
	if err := ns.Batch(
		"link add tail type veth peer name tail-far", "addr add 100.101.102.103/32 dev tail", "addr add fd7a:115c:a1e0::7/128 dev tail", "link set tail up",
		"link add wan type veth peer name wan-far", "addr add 100.70.0.2/24 dev wan", "addr add 2001:db8::2/64 dev wan", "link set wan up",
	); err != nil {
		t.Fatal(err)
	}
	defaults := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd7a:115c:a1e0::/48")}
	for _, c := range []struct {
		name     string
		list     []netip.Prefix
		from, to string
		want     bool
	}{
		{"a client in the tailnet", defaults, "100.90.1.1", "100.101.102.103", true},
		{"the same, IPv4-mapped", defaults, "::ffff:100.90.1.1", "::ffff:100.101.102.103", true},
		{"another customer of the provider", defaults, "100.70.0.9", "100.70.0.2", false},
		{"somebody from elsewhere", defaults, "198.51.100.1", "100.101.102.103", false},
		{"a forged sender", defaults, "100.90.1.1", "192.168.1.2", false},
		{"an address that is not ours", defaults, "100.90.1.1", "100.101.102.104", false},
		{"tailnets are not trusted", defaults[:1], "100.90.1.1", "100.101.102.103", false},
		{"nobody is trusted", nil, "100.90.1.1", "100.101.102.103", false},
	} {
		var got bool
		if err := ns.Do(func() error {
			got = tailnet.Of(c.list).Contains(netip.MustParseAddr(c.from), netip.MustParseAddr(c.to))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
