package appliance_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// do runs ip commands in a namespace.
func do(t *testing.T, ns *netns.NS, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := ns.IP(strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
}

// has reports whether an endpoint is among those of the kernel half.
func has(r status.Report, endpoint string) bool {
	return slices.Contains(r.XDP.Endpoints, netip.MustParseAddrPort(endpoint))
}

// TestInterfaces lets interfaces come, go, change their names and addresses, while the program runs.
func TestInterfaces(t *testing.T) {
	testenv.NeedXDP(t)
	node, far := netns.New(t, "node"), netns.New(t, "far")
	p := pair{node: node, gen: far}
	running := serve(t, node, t.TempDir(), "--xdp", "native")
	r := running.report()
	if r.XDP.Active || len(r.XDP.NICs) != 0 || !strings.Contains(r.XDP.Reason, "no interface") {
		t.Errorf("without interfaces XDP is %+v", r.XDP)
	}

	netns.Veth(t,
		netns.End{NS: node, Name: "eth0", Addrs: prefixes("198.18.5.1/24")},
		netns.End{NS: far, Name: "eth0", Addrs: prefixes("198.18.5.2/24", "2001:db8:0:5::2/64"), Pass: true})
	r = running.until("an interface that came", func(r status.Report) bool {
		n := nic(r, "eth0")
		return n.Mode == "native" && n.ProgramID != 0 && has(r, "198.18.5.1:6881")
	})
	if !r.XDP.Active || p.xdp(t, "eth0") != "native" || nic(r, "eth0").Driver != "veth" {
		t.Errorf("XDP is %+v", r.XDP)
	}
	if wrong := query(dial(t, far, netip.MustParseAddrPort("198.18.5.1:6881")), 0, patience); wrong != "" {
		t.Error(wrong)
	}

	do(t, node, "addr add 2001:db8:0:5::1/64 dev eth0 nodad", "addr del 198.18.5.1/24 dev eth0")
	running.until("addresses that changed", func(r status.Report) bool {
		return has(r, "[2001:db8:0:5::1]:6881") && !has(r, "198.18.5.1:6881")
	})
	waitNeighbour(t, node, "2001:db8:0:5::1")
	before := answered(running.report(), "ping")
	if wrong := query(dial(t, far, netip.MustParseAddrPort("[2001:db8:0:5::1]:6881")), 0, patience); wrong != "" {
		t.Error(wrong)
	}
	if after := answered(running.report(), "ping"); after != before+1 {
		t.Errorf("the kernel half answered %d pings at the new address, want 1", after-before)
	}

	do(t, node, "link set eth0 name wan7")
	r = running.until("another name", func(r status.Report) bool { return nic(r, "wan7").Mode == "native" })
	if nic(r, "eth0").Name != "" || p.xdp(t, "wan7") != "native" {
		t.Errorf("NICs are %+v", r.XDP.NICs)
	}

	do(t, node, "link set wan7 down")
	running.until("down", func(r status.Report) bool { n := nic(r, "wan7"); return !n.Up && n.Mode == "native" })
	do(t, node, "link set wan7 up")

	do(t, node, "link add br0 type bridge", "link set wan7 master br0")
	r = running.until("a port of a bridge", func(r status.Report) bool { return nic(r, "wan7").Mode == "none" })
	if mode := p.xdp(t, "wan7"); mode != "" || !strings.Contains(nic(r, "wan7").Reason, "port of a bridge") {
		t.Errorf("XDP mode %q is attached to a port, which is shown as %+v", mode, nic(r, "wan7"))
	}
	do(t, node, "link set wan7 nomaster")
	running.until("no port any more", func(r status.Report) bool { return nic(r, "wan7").Mode == "native" })

	index := nic(running.report(), "wan7").Index
	do(t, node, "link del wan7")
	running.until("gone", func(r status.Report) bool { return nic(r, "wan7").Name == "" && !r.XDP.Active })
	if err := node.IP(strings.Fields("link add name eth9 index " + strconv.Itoa(index) + " type veth peer name far9")...); err != nil {
		t.Fatal(err)
	}
	do(t, node, "link set far9 up", "link set eth9 up")
	running.until("another interface of the same index", func(r status.Report) bool {
		n := nic(r, "eth9")
		return n.Index == index && n.Mode == "native" && n.ProgramID != 0
	})
	if code := running.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, name := range []string{"eth9", "far9"} {
		if mode := p.xdp(t, name); mode != "" {
			t.Errorf("after the stop %s has a program in %s mode", name, mode)
		}
	}
}

// waitNeighbour waits until a namespace can be found at an IPv6 address that was added to it. Linux joins the group to
// which neighbours send their solicitations (RFC 4291, section 2.7.1) some time after the address is there; one sent
// before is lost, and repeated a second later.
func waitNeighbour(t *testing.T, ns *netns.NS, addr string) {
	t.Helper()
	a := netip.MustParseAddr(addr).As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", a[13:])
	for deadline := time.Now().Add(15 * time.Second); ; {
		groups, err := ns.Output("cat", "/proc/thread-self/net/igmp6")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(groups), group) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the multicast group %s of %s was not joined:\n%s", group, addr, groups)
		}
	}
}

// answered is how many queries of a method the kernel half has answered.
func answered(r status.Report, query string) uint64 {
	for _, c := range r.XDP.Counters {
		if c.Reason == "answered" && c.Query == query {
			return c.Packets
		}
	}
	return 0
}

// TestNamedInterfaces attaches to what the configuration names, and to nothing else.
func TestNamedInterfaces(t *testing.T) {
	testenv.NeedXDP(t)
	p := pair{node: netns.New(t, "named")}
	do(t, p.node, "link add eth0 type veth peer name far0", "link add eth1 type veth peer name far1",
		"link set eth0 up", "link set far0 up", "link set eth1 up", "link set far1 up")
	running := serve(t, p.node, t.TempDir(), "--xdp", "generic", "--interface", "eth1", "--interface", "lo", "--interface", "eth7")
	r := running.report()
	for name, want := range map[string]string{"lo": "generic", "eth0": "", "eth1": "generic", "far0": "", "far1": ""} {
		if got := p.xdp(t, name); got != want {
			t.Errorf("%s: XDP mode %q, want %q", name, got, want)
		}
	}
	if n := nic(r, "eth0"); n.Wanted != "none" || n.Reason == "" {
		t.Errorf("eth0 is %+v, want it unwanted", n)
	}
	if n := nic(r, "eth7"); n.Mode != "none" || n.Reason != "there is no such interface" {
		t.Errorf("eth7 is %+v, want it missed", n)
	}
	if !has(r, "127.0.0.1:6881") || !has(r, "[::1]:6881") {
		t.Errorf("endpoints are %v, want those of the loopback interface among them", r.XDP.Endpoints)
	}
	if !strings.Contains(strings.Join(r.Problems, "\n"), "eth7") {
		t.Errorf("problems are %q, want eth7 among them", r.Problems)
	}
	do(t, p.node, "link set eth0 down", "link set eth0 name eth7", "link set eth7 up")
	running.until("the missing interface", func(r status.Report) bool { return nic(r, "eth7").Mode == "generic" })
}

// TestOtherProgram meets an interface where somebody else's program is.
func TestOtherProgram(t *testing.T) {
	testenv.NeedXDP(t)
	p := pair{node: netns.New(t, "busy")}
	do(t, p.node, "link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up")
	if err := netns.AttachPass(p.node, "eth0"); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p.node, t.TempDir(), "--xdp", "native", "--interface", "eth0").report()
	if n := nic(r, "eth0"); n.Mode != "none" || !strings.Contains(n.Reason, "another XDP program") || r.XDP.Active {
		t.Errorf("eth0 is %+v, want it left to the other program", n)
	}
	if len(r.Problems) != 2 {
		t.Errorf("problems are %q, want two", r.Problems)
	}
}

// TestNoNativeMode asks for native mode where the driver has none.
func TestNoNativeMode(t *testing.T) {
	testenv.NeedXDP(t)
	p := pair{node: netns.New(t, "bridge")}
	do(t, p.node, "link add br0 type bridge", "link set br0 up")
	for mode, want := range map[string]string{"native": "none", "auto": "generic"} {
		running := serve(t, p.node, t.TempDir(), "--xdp", mode, "--interface", "br0")
		n := nic(running.report(), "br0")
		if n.Wanted != mode || n.Mode != want || !strings.HasPrefix(n.Reason, "native: ") {
			t.Errorf("--xdp %s: br0 is %+v, want mode %s and why not native", mode, n, want)
		}
		if log := running.text(); strings.Count(log, "interface=br0") != 1 {
			t.Errorf("--xdp %s: the fallback is logged %d times, want once", mode, strings.Count(log, "interface=br0"))
		}
		running.stop(syscall.SIGTERM)
	}
}

// TestXDPOff attaches nothing and says why.
func TestXDPOff(t *testing.T) {
	testenv.NeedXDP(t)
	p := pair{node: netns.New(t, "off")}
	do(t, p.node, "link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up")
	r := serve(t, p.node, t.TempDir(), "--xdp", "off").report()
	if r.XDP.Active || r.XDP.Mode != "off" || r.XDP.Reason == "" || len(r.Problems) != 0 || p.xdp(t, "eth0") != "" {
		t.Errorf("XDP is %+v, problems %q, eth0 has mode %q", r.XDP, r.Problems, p.xdp(t, "eth0"))
	}
}

// TestNoPermission runs the program as a user who may not load BPF programs: it says so in one line, and serves.
func TestNoPermission(t *testing.T) {
	p := newPair(t)
	const nobody = 65534
	state, err := os.MkdirTemp("", "kdht-nobody") // the parents of t.TempDir are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	if err := os.Chown(state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	running := launchAs(t, p.node, &syscall.Credential{Uid: nobody, Gid: nobody}, "serve", "--state", state, "--http", httpAddr, "--bootstrap", "none")
	running.waitLog("msg=serving")
	for _, a := range p.addrs {
		if wrong := query(dial(t, p.gen, a), 0, patience); wrong != "" {
			t.Errorf("%v: %s", a, wrong)
		}
	}
	r := running.report()
	if r.XDP.Active || !strings.Contains(r.XDP.Reason, "no permission") || len(r.Problems) != 1 {
		t.Errorf("XDP is %+v, problems %q", r.XDP, r.Problems)
	}
	if n := strings.Count(running.text(), "level=WARN"); n != 1 {
		t.Errorf("there are %d warnings in the log, want one:\n%s", n, running.text())
	}
}
