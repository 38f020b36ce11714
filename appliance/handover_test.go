package appliance_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/appliance/link"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// pair is a node's namespace and one that queries it, joined by veth.
type pair struct {
	node, gen *netns.NS
	state     string
	addrs     []netip.AddrPort // of the node
}

// newPair makes a pair. The other end of the veth has an XDP program, without which native XDP_TX would lose replies, and
// complete checksums, without which generic mode does not answer.
func newPair(t *testing.T) pair {
	t.Helper()
	testenv.NeedXDP(t)
	p := pair{netns.New(t, "node"), netns.New(t, "gen"), t.TempDir(), []netip.AddrPort{
		netip.MustParseAddrPort("198.18.3.1:6881"), netip.MustParseAddrPort("[2001:db8:0:3::1]:6881"),
	}}
	netns.Veth(t,
		netns.End{NS: p.node, Name: "eth0", Addrs: prefixes("198.18.3.1/24", "2001:db8:0:3::1/64")},
		netns.End{NS: p.gen, Name: "eth0", Addrs: prefixes("198.18.3.2/24", "2001:db8:0:3::2/64"), Pass: true, Sum: true})
	return p
}

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// xdp returns the mode in which the kernel says that an XDP program is attached to the node's interface.
func (p pair) xdp(t *testing.T, name string) string {
	t.Helper()
	var links []link.Link
	if err := p.node.Do(func() (err error) { links, err = link.List(); return err }); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == name {
			return l.XDPMode
		}
	}
	t.Fatalf("there is no interface %s", name)
	return ""
}

// TestRestartUnderLoad restarts the program, after a clean stop and after a kill, while clients query it. Whatever the
// kernel can answer must be answered: no ping and no find_node may be lost.
func TestRestartUnderLoad(t *testing.T) {
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) { restartUnderLoad(t, mode) })
	}
}

func restartUnderLoad(t *testing.T, mode string) {
	p := newPair(t)
	args := []string{"--xdp", mode, "--set", "xdp.linger=30s", "--set", "xdp.lease=30s"}
	first := serve(t, p.node, p.state, args...)
	if n := nic(first.report(), "eth0"); n.Mode != mode || n.Reason != "" {
		t.Fatalf("eth0 is %+v, want %s", n, mode)
	}
	l := startLoad(t, p.gen, 4, p.addrs...)
	const some = 3000
	l.waitFor(t, some)
	if lost := l.lost.Load(); lost > 0 {
		t.Fatalf("%d queries were lost before anything happened: %s", lost, *l.wrong.Load())
	}

	running := first
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		id := running.report().Families[0].ID
		want := 0
		if s == syscall.SIGKILL {
			want = -1
		}
		if code := running.stop(s); code != want {
			t.Fatalf("%v: exit code %d, want %d", s, code, want)
		}
		l.waitFor(t, some) // nobody is there but the kernel half
		running = serve(t, p.node, p.state, args...)
		l.waitFor(t, some)
		r := running.report()
		if !r.XDP.TakenOver || r.Families[0].ID != id {
			t.Errorf("after %v: taken over %v, node ID %s, want true, %s", s, r.XDP.TakenOver, r.Families[0].ID, id)
		}
	}
	l.stop()
	if lost := l.lost.Load(); lost > 0 {
		t.Errorf("%d of %d queries were lost in restarts, want none: %s", lost, l.sent.Load(), *l.wrong.Load())
	}
	t.Logf("%d queries answered over three restarts, %d of them late", l.answered.Load(), l.late.Load())
	running.stop(syscall.SIGKILL) // and here the pins stay
	removePins(t, running)
}

// removePins removes what a process that was killed has left.
func removePins(t *testing.T, p *process) {
	t.Helper()
	p.t = t
	p = serve(t, p.ns, argument(p, "--state"), "--set", "xdp.linger=0s")
	dir := p.report().XDP.PinDir
	p.stop(syscall.SIGTERM)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", dir, err)
	}
}

func argument(p *process, flag string) string {
	for i, a := range p.cmd.Args {
		if a == flag {
			return p.cmd.Args[i+1]
		}
	}
	return ""
}

// TestLease lets the lease of a killed process run out.
func TestLease(t *testing.T) {
	p := newPair(t)
	const lease = 5 * time.Second
	running := serve(t, p.node, p.state, "--xdp", "native", "--set", "xdp.lease="+lease.String())
	c := dial(t, p.gen, p.addrs[0])
	if wrong := query(c, 0, patience); wrong != "" {
		t.Fatal(wrong)
	}
	running.stop(syscall.SIGKILL)
	dead := time.Now()
	var silent time.Duration
	for i := uint32(1); silent == 0; i++ {
		asked := time.Since(dead)
		switch wrong := query(c, i, patience); {
		case strings.Contains(wrong, "connection refused"): // the stack has it, and there is no socket
			silent = time.Since(dead)
		case wrong != "":
			t.Fatalf("after %v: %s", asked, wrong)
		case asked > lease+lease/50: // whoever is answered late was in time, however busy the machine is
			t.Fatalf("the kernel half is asked %v after the kill and answers, the lease is %v", asked, lease)
		}
	}
	// The last renewal was up to a third of the lease ago, and half as long again where the machine was busy.
	if silent < lease/2 {
		t.Errorf("the kernel half fell silent %v after the kill, the lease is %v", silent, lease)
	}
	if mode := p.xdp(t, "eth0"); mode != "native" {
		t.Errorf("the mode is %q: silence has another cause", mode)
	}
	removePins(t, running)
}

// TestAnotherInstance starts the program with another state directory at an interface that the first one has, living
// and dead.
func TestAnotherInstance(t *testing.T) {
	p := newPair(t)
	args := []string{"--xdp", "native", "--set", "xdp.linger=30s"}
	first := serve(t, p.node, p.state, args...)
	state := t.TempDir()
	second := func() *process {
		q := launch(t, p.node, append([]string{"serve", "--state", state, "--http", "127.0.0.1:8081", "--listen", "0.0.0.0:6882", "--bootstrap", "none", "--set", exempt}, args...)...)
		q.http = "127.0.0.1:8081"
		q.waitLog("msg=serving")
		return q
	}
	q := second()
	if n := nic(q.report(), "eth0"); n.Mode != "none" || !strings.Contains(n.Reason, "another XDP program") {
		t.Errorf("eth0 is %+v, want it left to the first process", n)
	}
	q.stop(syscall.SIGTERM)
	dir := first.report().XDP.PinDir
	first.stop(syscall.SIGKILL)
	q = second()
	if n := nic(q.report(), "eth0"); n.Mode != "native" {
		t.Errorf("eth0 is %+v, want it taken from the dead process", n)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", dir, err)
	}
	q.stop(syscall.SIGKILL)
	q = serve(t, p.node, state, "--xdp", "native")
	q.stop(syscall.SIGTERM)
}

// TestCleanStop makes sure that a stop leaves nothing behind.
func TestCleanStop(t *testing.T) {
	p := newPair(t)
	running := serve(t, p.node, p.state)
	r := running.report()
	if n := nic(r, "eth0"); n.Wanted != "auto" || n.Mode != "generic" || !strings.Contains(n.Reason, "--xdp native") {
		t.Errorf("eth0 is %+v, want generic mode and a reason that names the way to native", n)
	}
	if p.xdp(t, "eth0") != "generic" || !r.XDP.Pinned || !r.XDP.Active {
		t.Errorf("XDP is %+v", r.XDP)
	}
	if _, err := os.Stat(r.XDP.PinDir); err != nil {
		t.Errorf("pins: %v", err)
	}
	c := dial(t, p.gen, p.addrs[1])
	if wrong := query(c, 0, patience); wrong != "" {
		t.Error(wrong)
	}
	if code := running.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if mode := p.xdp(t, "eth0"); mode != "" {
		t.Errorf("after a clean stop an XDP program is attached in %s mode", mode)
	}
	if _, err := os.Stat(r.XDP.PinDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a clean stop there are pins in %s: %v", r.XDP.PinDir, err)
	}
	if wrong := query(c, 1, patience); !strings.Contains(wrong, "connection refused") {
		t.Errorf("after a clean stop a query gives %q", wrong)
	}
}
