package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"kdht/appliance/fleet"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// The addresses are the same in every rig, so that two nodes with the same state have to give the same answers.
var (
	node4 = netip.MustParseAddrPort("198.18.0.1:6881")
	node6 = netip.MustParseAddrPort("[2001:db8:0:1::1]:6881")
	// Two clients on the link to the node.
	client4 = netip.MustParseAddr("198.18.0.2")
	client6 = netip.MustParseAddr("2001:db8:0:1::2")
	other4  = netip.MustParseAddr("198.18.0.3")
	other6  = netip.MustParseAddr("2001:db8:0:1::3")
	// Addresses of the simulated nodes of a swarm, behind the clients.
	swarm4 = netip.MustParsePrefix("198.19.0.0/16")
	swarm6 = netip.MustParsePrefix("2001:db8:8000::/33")
)

const (
	nodeMAC   = "02:00:00:00:00:01"
	clientMAC = "02:00:00:00:00:02"
	ifname    = "eth0" // at both ends
)

// modes are the values of --xdp that everything is tested with.
var modes = []string{"native", "off"}

// rig is a namespace for a node and one for everybody else, joined by a veth pair.
type rig struct {
	node, peer *netns.NS
}

func newRig(t *testing.T) *rig {
	t.Helper()
	testenv.NeedXDP(t)
	r := &rig{node: netns.New(t, "node"), peer: netns.New(t, "peer")}
	prefixes := func(bits4 int, addrs ...netip.Addr) (ps []netip.Prefix) {
		for _, a := range addrs {
			bits := bits4
			if a.Is6() {
				bits = 64
			}
			ps = append(ps, netip.PrefixFrom(a, bits))
		}
		return ps
	}
	// Native XDP_TX delivers only to an end that has an XDP program, too.
	netns.Veth(t,
		netns.End{NS: r.node, Name: ifname, MAC: nodeMAC, Addrs: prefixes(24, node4.Addr(), node6.Addr())},
		netns.End{NS: r.peer, Name: ifname, MAC: clientMAC, Addrs: prefixes(24, client4, client6, other4, other6), Pass: true})
	must(t, r.node.Batch(
		fmt.Sprintf("route add %s via %s", swarm4, client4),
		fmt.Sprintf("route add %s via %s", swarm6, client6),
		fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", client4, clientMAC, ifname),
		fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", client6, clientMAC, ifname)))
	must(t, r.peer.Batch(
		fmt.Sprintf("route add local %s dev lo", swarm4),
		fmt.Sprintf("route add local %s dev lo", swarm6),
		fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", node4.Addr(), nodeMAC, ifname),
		fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", node6.Addr(), nodeMAC, ifname)))
	must(t, r.peer.Sysctl("net.ipv6.ip_nonlocal_bind", "1"))
	return r
}

// built is where the program was built, empty if no test needed it.
var built string

// program builds the program once for all tests.
var program = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "kdht-conformance"); err != nil {
		return "", err
	}
	return fleet.Build(context.Background(), built)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built) // a directory for temporary files is a good enough place for what cannot be removed
	}
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get returns what a function returns that may fail.
func get[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// copyState copies a state directory that no process uses.
func copyState(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, errors.Join(os.Remove(to), os.CopyFS(to, os.DirFS(from))))
	return to
}

// stateFile is the database in a state directory.
func stateFile(dir string) string { return filepath.Join(dir, "kdht.db") }
