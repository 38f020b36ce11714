package bpf_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"kdht/bpf"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// XDP verdicts.
const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

// Addresses of the node under test, and of one that asks it.
var (
	node4  = netip.MustParseAddrPort("198.18.0.1:6881")
	node6  = netip.MustParseAddrPort("[2001:db8:0:1::1]:6881")
	asker4 = netip.MustParseAddrPort("198.18.7.9:51413")
	asker6 = netip.MustParseAddrPort("[2001:db8:0:7::9]:51413")
)

// shared is the one program that most tests use: loading it takes a while on an emulated machine.
var shared struct {
	once sync.Once
	prog *bpf.Program
	err  error
}

// program returns the shared program with the node's endpoints, a lease, nothing held, and s published.
func program(t testing.TB, s *bpf.Snapshot) *bpf.Program {
	t.Helper()
	testenv.NeedRoot(t)
	shared.once.Do(func() { shared.prog, shared.err = bpf.Load(bpf.Config{}) })
	ready(t, shared.prog, shared.err, s)
	return shared.prog
}

// recursionFor lets the program do recursion for some clients until the test ends.
func recursionFor(t testing.TB, p *bpf.Program, clients ...netip.Prefix) {
	t.Helper()
	must(t, p.SetClients(clients))
	must(t, p.AllowRecursion(time.Hour, true))
	t.Cleanup(func() {
		must(t, p.SetClients(nil))
		must(t, p.AllowRecursion(0, false))
	})
}

// readSightings has all reports of senders be read until the test ends, and waits until there is room for new ones.
func readSightings(t testing.TB, p *bpf.Program) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var last atomic.Pointer[netip.AddrPort]
	ended := make(chan error)
	go func() { ended <- p.Sightings(ctx, func(s bpf.Sighting) { last.Store(&s.Addr) }) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	for from := asker4; last.Load() == nil || *last.Load() != from; {
		from = netip.AddrPortFrom(from.Addr().Next(), from.Port())
		run(t, p, queryTo(node4, from, []byte(ping)).frame(t))
	}
}

// attached attaches the program to an interface until the test ends.
func attached(t testing.TB, p *bpf.Program, ns *netns.NS, ifindex int, mode bpf.Mode) {
	t.Helper()
	got, err := in(ns, func() (bpf.Mode, error) { return p.Attach(ifindex, mode) })
	if err != nil || got != mode {
		t.Fatalf("Attach: %v, %v", got, err)
	}
	t.Cleanup(func() { must(t, p.Detach(ifindex)) })
}

// toMany are the addresses by which a node at all its addresses hears what is for many.
var toMany = []netip.AddrPort{
	netip.MustParseAddrPort("0.0.0.0:6881"), netip.MustParseAddrPort("[::]:6881"), netip.MustParseAddrPort("198.19.255.255:6881"),
}

// ready gives a program all it needs to answer.
func ready(t testing.TB, p *bpf.Program, loadErr error, s *bpf.Snapshot) {
	t.Helper()
	if errors.Is(loadErr, bpf.ErrPermission) || errors.Is(loadErr, bpf.ErrNotSupported) {
		testenv.NeedXDP(t)
	}
	var refused *ebpf.VerifierError
	if errors.As(loadErr, &refused) {
		t.Fatalf("Load: %-40v", refused)
	}
	must(t, loadErr)
	must(t, p.SetEndpoints([]netip.AddrPort{node4, node6}, toMany...))
	must(t, p.Renew(time.Hour))
	must(t, p.HoldAll(func(func([20]byte) bool) {}))
	must(t, p.Publish(s))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs the program on a frame.
func run(t testing.TB, p *bpf.Program, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	verdict, out, err := p.Run(frame)
	must(t, err)
	return verdict, out
}

// counts returns all counters by "reason" or "answered/query", and events by "event/name".
func counts(t testing.TB, p *bpf.Program) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	counters, err := p.Counters()
	must(t, err)
	for _, c := range counters {
		name := c.Reason
		if c.Query != "" {
			name += "/" + c.Query
		}
		out[name] = c.Packets
	}
	events, err := p.Events()
	must(t, err)
	for _, e := range events {
		out["event/"+e.Event] = e.Count
	}
	return out
}

// pairs is how many generated pairs of a table and a query are tried: KDHT_PAIRS, for slow machines, or n.
func pairs(t testing.TB, n int) int {
	s := os.Getenv("KDHT_PAIRS")
	if s == "" {
		return n
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("KDHT_PAIRS: %v", err)
	}
	return v
}
