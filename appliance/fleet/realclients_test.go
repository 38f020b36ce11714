package fleet_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

const (
	// fleetSize is the number of our nodes among which the foreign clients live.
	fleetSize = 30
	// isolated is how many of them have to learn their addresses, among them those that most clients begin with.
	isolated = 12
	// testTime bounds the whole test.
	testTime = 6 * time.Minute
)

// mixed is a fleet of our nodes with foreign clients among them, each of which bootstraps from another one of ours.
type mixed struct {
	*fleet.Fleet
	t      *testing.T             // the whole test
	client *fleet.Host            // where our own client commands run
	hosts  map[string]*fleet.Host // of the foreign clients
	key    foreign.Key            // signs items; its file is for our own client
	file   string

	before    []answers                           // of each node, at the beginning
	everyNode []func(context.Context, *testing.T) // looks for something through every node

	libtorrent4, other4 *foreign.Libtorrent // IPv4 only
	libtorrent6, other6 *foreign.Libtorrent // IPv6 only
	webtorrent          *foreign.Webtorrent
	transmission        *foreign.Transmission
}

// TestRealClients stores with every client, and finds with every other one, and with our own client through every
// node of ours. In the end the kernel must have answered most queries.
func TestRealClients(t *testing.T) {
	m := newMixed(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	joined := time.Now()
	t.Run("join", func(t *testing.T) { m.join(ctx, t) })
	t.Run("peers over IPv4", func(t *testing.T) { m.peers4(ctx, t) })
	t.Run("peers over IPv6", func(t *testing.T) { m.peers6(ctx, t) })
	t.Run("IDs", func(t *testing.T) { m.ids(ctx, t, joined.Add(30*time.Second)) })
	t.Run("items over IPv4", func(t *testing.T) { m.items(ctx, t, m.libtorrent4, m.other4, addr4) })
	t.Run("items over IPv6", func(t *testing.T) { m.items(ctx, t, m.libtorrent6, m.other6, addr6) })
	t.Run("between libraries", func(t *testing.T) { m.libraries(ctx, t) })
	// Our short-lived client commands come last: clients that ignore BEP 43 take each of them for a node, and are busy
	// with their remains for a while.
	t.Run("own client", func(t *testing.T) { m.ownClient(ctx, t) })
	t.Run("every node", func(t *testing.T) {
		for _, check := range m.everyNode {
			check(ctx, t)
		}
	})
	t.Run("IDs in the end", func(t *testing.T) { m.ids(ctx, t, joined) })
	t.Run("kernel", func(t *testing.T) { m.kernel(ctx, t) })
}

func addr4(n *fleet.Node) netip.AddrPort { return n.Addr4 }
func addr6(n *fleet.Node) netip.AddrPort { return n.Addr6 }

// newMixed starts everything, and stops it when the test ends.
func newMixed(t *testing.T) *mixed {
	t.Helper()
	testenv.NeedXDP(t)
	testenv.NeedTool(t, "aria2c")
	testenv.NeedTool(t, "transmission-daemon")
	testenv.NeedTool(t, "npm")
	testenv.NeedTool(t, "node")
	python := testenv.NeedPython(t, "libtorrent")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	script, err := foreign.InstallWebtorrent(ctx)
	must(t, err)
	f, err := fleet.New(ctx, fleet.Options{Nodes: fleetSize, Isolated: isolated, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", f.Nodes[0].Name(), f.Nodes[0].Log(8192))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &mixed{Fleet: f, t: t, client: addHost(t, f, "client"), hosts: make(map[string]*fleet.Host)}
	for _, name := range []string{"libtorrent4", "libtorrent4b", "libtorrent6", "libtorrent6b", "webtorrent", "transmission", "aria2"} {
		m.hosts[name] = addHost(t, f, name)
	}
	m.makeKey(t)

	libtorrent := func(name string, via netip.AddrPort) *foreign.Libtorrent {
		h := m.hosts[name]
		own := h.IPv4
		if via.Addr().Is6() {
			own = h.IPv6
		}
		l, err := foreign.StartLibtorrent(ctx, h, f.Dir, name, python, via, own)
		must(t, err)
		m.closeLater(l)
		return l
	}
	m.libtorrent4, m.other4 = libtorrent("libtorrent4", f.Nodes[1].Addr4), libtorrent("libtorrent4b", f.Nodes[2].Addr4)
	m.libtorrent6, m.other6 = libtorrent("libtorrent6", f.Nodes[3].Addr6), libtorrent("libtorrent6b", f.Nodes[4].Addr6)

	m.webtorrent, err = foreign.StartWebtorrent(ctx, m.hosts["webtorrent"], f.Dir, "webtorrent", script, f.Nodes[5].Addr4)
	must(t, err)
	m.closeLater(m.webtorrent)
	var bootstrap []netip.AddrPort
	for _, n := range f.Nodes[10:20] {
		bootstrap = append(bootstrap, n.Addr4, n.Addr6)
	}
	m.transmission, err = foreign.StartTransmission(ctx, f.Network, m.hosts["transmission"], f.Dir, "transmission", aside(),
		bootstrap...)
	must(t, err)
	m.closeLater(m.transmission)
	return m
}

// join waits until every client has found its place.
func (m *mixed) join(ctx context.Context, t *testing.T) {
	m.before = m.count(ctx, t)
	const enough = 8
	for name, wait := range map[string]func(context.Context, int) (int, error){
		"libtorrent, IPv4":       m.libtorrent4.WaitNodes,
		"other libtorrent, IPv4": m.other4.WaitNodes,
		"libtorrent, IPv6":       m.libtorrent6.WaitNodes,
		"other libtorrent, IPv6": m.other6.WaitNodes,
		"bittorrent-dht":         m.webtorrent.WaitNodes,
	} {
		count, err := wait(ctx, enough)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s knows %d nodes", name, count)
	}
}

// aside is the half of the ID space in which clients are that do not answer get. In the other half are all the targets
// of items: libtorrent would wait 15 seconds for each such client close to a target.
func aside() krpc.ID {
	id, _ := krpc.ParseID(randomID())
	id[0] |= 0x80
	return id
}

// variant returns the first of "text", "text 1", "text 2" ... whose target is in the half of the items.
func variant(text string, target func(string) krpc.ID) string {
	s := text
	for i := 1; target(s)[0] >= 0x80; i++ {
		s = fmt.Sprintf("%s %d", text, i)
	}
	return s
}

// value returns a variant of text as the value of an immutable item.
func value(text string) string {
	return variant(text, func(s string) krpc.ID {
		return krpc.ImmutableTarget(fmt.Appendf(nil, "%d:%s", len(s), s))
	})
}

// salt returns a variant of text as a salt.
func (m *mixed) salt(text string) string {
	return variant(text, func(s string) krpc.ID { return krpc.MutableTarget(m.key.Public, []byte(s)) })
}

func addHost(t *testing.T, f *fleet.Fleet, label string) *fleet.Host {
	t.Helper()
	h, err := f.Network.AddHost(label)
	must(t, err)
	return h
}

// closeLater closes a foreign client at the end of the whole test. How it ends is not our business.
func (m *mixed) closeLater(c interface{ Close() error }) {
	m.t.Cleanup(func() { _ = c.Close() })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
