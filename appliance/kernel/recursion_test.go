package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kdht/appliance/kernel"
	"kdht/appliance/link"
	"kdht/appliance/nexthop"
	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// hopPatience is how long a node may take to answer.
const hopPatience = 200 * time.Millisecond

// recursive is the part of the fakes that concerns recursion.
type recursive struct {
	begun    chan struct{}
	nexthops chan nexthop.Changes
	late     []bpf.Recursion // taken over by the next look
	underWay []time.Time     // when nodes were asked that have not answered
	waiting  map[string]bpf.Recursion
	looks    int

	lookTakes time.Duration
	miss      bool // the next look sees nothing

	tookAfter []time.Duration // how long after they were asked the nodes of underWay counted as late

	attachments []bpf.Attachment
	detached    map[int]bool // launchers that somebody has taken away since the last look
	noRoom      error        // to attach them again
	resumed     []router.RecursionState
	taker       router.KernelRecursion
}

func (f *fake) SetClients(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	return f.note("clients %v", prefixes)
}

func (f *fake) SetRoutes(routes []bpf.Route) error {
	var s []string
	for _, r := range routes {
		s = append(s, fmt.Sprintf("%v by %d %v from %v", r.Prefix, r.Ifindex, r.Gateway, r.Source))
	}
	return f.note("routes %s", strings.Join(s, ", "))
}

func (f *fake) SetNeighbours(ns []bpf.Neighbour) error { return f.note("neighbours %d", len(ns)) }
func (f *fake) AddNeighbour(n bpf.Neighbour) error     { return f.note("add %v", n.Addr) }
func (f *fake) RemoveNeighbour(n bpf.Neighbour) error  { return f.note("remove %v", n.Addr) }

// begin has a recursion begin whose node does not answer, or does so at once.
func (f *fake) begin(answered bool) {
	f.mu.Lock()
	from := netip.MustParseAddrPort("198.18.1.3:6881")
	if answered {
		f.rec.waiting["\x80bcd"+from.String()] = aRecursion()
	} else {
		f.rec.underWay = append(f.rec.underWay, time.Now())
	}
	taker := f.rec.taker
	f.mu.Unlock()
	select {
	case f.rec.begun <- struct{}{}:
	default: // it is to come for an earlier one anyway
	}
	if answered {
		taker.Take([]byte("\x80bcd"), from, func(*router.RecursionState) bool { return false })
	}
}

// lookTakes has looks take so long from now on.
func (f *fake) lookTakes(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec.lookTakes = d
}

func (f *fake) AllowRecursion(d time.Duration, private bool) error {
	return f.note("renew recursion %v %v", d, private)
}

func (f *fake) Recursions(ctx context.Context, g func()) error {
	for {
		select {
		case <-f.rec.begun:
			g()
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fake) TakeRecursion(tid []byte, from netip.AddrPort, answer func(*bpf.Recursion) bool) (bpf.Recursion, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(tid) + from.String()
	r, ok := f.rec.waiting[key]
	delete(f.rec.waiting, key)
	if ok {
		own := r
		own.Others = nil
		answer(&own)
	}
	return r, ok, nil
}

func (f *fake) Relaunch(index int) (lost bool, err error) {
	if lost = f.rec.detached[index]; lost {
		err = f.rec.noRoom
		for i := range f.rec.attachments {
			if a := &f.rec.attachments[i]; a.Ifindex == index {
				a.OnePath = err
			}
		}
		delete(f.rec.detached, index)
	}
	return lost, err
}

func (f *fake) SetPatience(time.Duration) error { return nil }
func (f *fake) Dismiss(tid [4]byte) error       { return f.note("dismiss %x", tid) }
func (f *fake) TakeOverdue(hop, _ time.Duration) ([]bpf.Recursion, bpf.UnderWay, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.rec.lookTakes; d > 0 {
		f.mu.Unlock()
		time.Sleep(d)
		f.mu.Lock()
	}
	late := f.rec.late
	f.rec.late = nil
	f.rec.looks++
	var under bpf.UnderWay
	if f.rec.miss {
		f.rec.miss = false
		return late, under, nil
	}
	f.rec.underWay = slices.DeleteFunc(f.rec.underWay, func(sent time.Time) bool {
		left := time.Until(sent.Add(hop))
		if left <= 0 {
			f.rec.tookAfter = append(f.rec.tookAfter, time.Since(sent))
			r := aRecursion()
			late = append(late, r)
			return true
		}
		if under.Count++; under.Next == 0 || left < under.Next {
			under.Next = left
		}
		return false
	})
	return late, under, nil
}

func (n node) SetKernelRecursion(k router.KernelRecursion) { n.rec.taker = k }
func (n node) HopPatience() time.Duration                  { return hopPatience }
func (n node) Resume(st router.RecursionState) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rec.resumed = append(n.rec.resumed, st)
	return nil
}

type nextHops struct{ *fake }

func (n nextHops) Run(ctx context.Context, f func(nexthop.Changes)) error {
	for {
		select {
		case c := <-n.rec.nexthops:
			f(c)
		case <-ctx.Done():
			return nil
		}
	}
}
func (n nextHops) Close() error { return nil }

// startRecursive runs a half that has clients.
func startRecursive(t *testing.T) (f *fake, h *kernel.Half, end func() error) {
	t.Helper()
	f = newFake()
	f.rec = recursive{begun: make(chan struct{}, 1), nexthops: make(chan nexthop.Changes), waiting: map[string]bpf.Recursion{}}
	h, end = f.start(t, func(c *kernel.Config) {
		c.Clients, c.Private = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true
		c.NextHops = func() (kernel.NextHops, error) { return nextHops{f}, nil }
	})
	return f, h, end
}

// aRecursion is one that has asked three nodes.
func aRecursion() bpf.Recursion {
	at := func(i byte) bpf.Node {
		return bpf.Node{ID: [20]byte{i}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 1, i}), 6881)}
	}
	return bpf.Recursion{
		Client: netip.MustParseAddrPort("10.1.1.1:5000"), Entry: netip.MustParseAddrPort("10.1.1.2:6881"), TID: []byte("aa"),
		Method: "get_peers", Target: [20]byte{7}, Want6: true, Begun: 300 * time.Millisecond,
		Path: bpf.Path{
			Asked: []bpf.Node{at(1), at(2), at(3)}, Referral: []bpf.Node{at(3), at(4)},
			Transaction: [4]byte{0x80, 1, 2, 3}, Sent: 20 * time.Millisecond,
		},
		Others: []bpf.Path{
			{Asked: []bpf.Node{at(5), at(6)}, Referral: []bpf.Node{at(6), at(7)}, Transaction: [4]byte{0x80, 1, 2, 4}, Sent: 10 * time.Millisecond},
			{Asked: []bpf.Node{at(8)}, End: bpf.NobodyCloser, Referral: []bpf.Node{at(9)}, Transaction: [4]byte{0x80, 1, 2, 5}, Sent: 30 * time.Millisecond},
			{Asked: []bpf.Node{at(10), at(11)}, End: bpf.Failed, Referral: []bpf.Node{at(12)}, Transaction: [4]byte{0x80, 1, 2, 6}, Sent: 30 * time.Millisecond},
		},
	}
}

// checkState checks what the router is told of aRecursion.
func checkState(t *testing.T, st router.RecursionState) {
	t.Helper()
	if st.Client.String() != "10.1.1.1:5000" || st.Local.String() != "10.1.1.2:6881" || string(st.TID) != "aa" ||
		st.Method != krpc.MethodGetPeers || st.Target != (router.ID{7}) || st.Want != krpc.WantN6 || time.Since(st.Started) != 300*time.Millisecond {
		t.Errorf("state %+v", st)
	}
	var asked, candidates []byte
	for _, a := range st.Asked {
		if asked = append(asked, a.ID[0]); a.Answered != (a.ID[0] != 11) {
			t.Errorf("%v", a)
		}
	}
	if !bytes.Equal(asked, []byte{2, 5, 8, 10, 11}) {
		t.Errorf("asked %v, want only those whose referrals are known, or who failed", asked)
	}
	for _, c := range st.Candidates {
		candidates = append(candidates, c.ID[0])
	}
	slices.Sort(candidates)
	if got := slices.Compact(candidates); !bytes.Equal(got, []byte{3, 4, 6, 7, 9, 12}) {
		t.Errorf("candidates %v", got)
	}
}

// unanswered lists the nodes that have not answered, by the last byte of the query's transaction ID.
func unanswered(t *testing.T, st *router.RecursionState) map[byte]string {
	t.Helper()
	all := map[byte]string{}
	for _, q := range st.Unanswered {
		if all[q.TID[3]] = q.Addr.String(); time.Since(q.Sent) > 100*time.Millisecond {
			t.Errorf("sent at %v", q.Sent)
		}
	}
	return all
}

// TestRecursionsLate takes over what is late, and looks only while there is something to see.
func TestRecursionsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, end := startRecursive(t)
		expect(t, f, "start", begin+"; clients [10.0.0.0/8]")
		time.Sleep(time.Minute)
		synctest.Wait()
		if f.rec.looks > 60 {
			t.Errorf("%d looks in an idle minute", f.rec.looks)
		}
		f.took()
		f.begin(false)
		time.Sleep(hopPatience / 2)
		expect(t, f, "one began", "")
		f.mu.Lock()
		f.rec.underWay = nil // it has found its end
		old := aRecursion()
		old.Begun = time.Minute
		f.rec.late = []bpf.Recursion{aRecursion(), old}
		f.mu.Unlock()
		time.Sleep(hopPatience/2 + 50*time.Millisecond)
		synctest.Wait()
		f.mu.Lock()
		if len(f.rec.resumed) != 1 {
			t.Fatalf("%d resumed", len(f.rec.resumed))
		}
		st := f.rec.resumed[0]
		f.mu.Unlock()
		st.Started = time.Now().Add(-300 * time.Millisecond)
		checkState(t, st)
		if got := unanswered(t, &st); !maps.Equal(got, map[byte]string{3: "198.18.1.3:6881", 4: "198.18.1.6:6881"}) {
			t.Errorf("without answer: %v", got)
		}
		time.Sleep(10 * time.Second)
		expect(t, f, "nobody waits for what is too old, and then it is quiet", "dismiss 80010204; dismiss 80010203")
		if r := h.Report().Recursion; r == nil || r.Late != 1 || r.Replied != 0 || r.Hops[3] != 1 {
			t.Errorf("report %+v", r)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		if f.rec.taker != nil {
			t.Error("the node still asks")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if !slices.Contains(f.journal, "renew recursion 0s true") {
			t.Errorf("recursion goes on: %v", f.journal)
		}
	})
}

// TestRecursionsTakenOverInTime has recursions begin whenever they like whose nodes never answer, among others that are answered at once: each is taken
// over as soon as its node is late, though nobody is told of those that begin while others are looked after.
func TestRecursionsTakenOverInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, end := startRecursive(t)
		synctest.Wait()
		const all = 300
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range all {
			f.begin(false)
			synctest.Wait()
			time.Sleep(time.Duration(rng.Int64N(int64(2 * hopPatience))))
			if i%10 == 0 {
				time.Sleep(time.Duration(rng.Int64N(int64(10 * hopPatience))))
			}
			f.begin(i%3 == 0)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		f.mu.Lock()
		if n := len(f.rec.tookAfter); n != 2*all-(all+2)/3 {
			t.Errorf("%d taken over", n)
		}
		for _, after := range f.rec.tookAfter {
			if after > hopPatience+2*time.Millisecond {
				t.Errorf("taken over %v after the node was asked", after)
			}
		}
		f.mu.Unlock()
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestManyStuckRecursionsCostFewLooks has very many recursions become late one after the other, as with the uplink down: looking, which then takes long,
// takes a tenth of the time at most.
func TestManyStuckRecursionsCostFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, end := startRecursive(t)
		synctest.Wait()
		f.lookTakes(2 * time.Millisecond)
		for range 1000 {
			f.begin(false)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		f.mu.Lock()
		if took := time.Duration(f.rec.looks) * f.rec.lookTakes; took > 2*time.Second/10 || len(f.rec.tookAfter) != 1000 {
			t.Errorf("looking took %v of two seconds; %d were taken over", took, len(f.rec.tookAfter))
		}
		f.mu.Unlock()
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestRecursionsTakenOverAfterAll has a look go by without seeing what is under way, which moves while it is looked for, and one take a minute,
// as where the machine was stopped: what was missed is taken over within 3 s, and what comes later in time.
func TestRecursionsTakenOverAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, end := startRecursive(t)
		synctest.Wait()
		took := func(what string, most time.Duration) {
			t.Helper()
			f.begin(false)
			time.Sleep(most)
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.rec.tookAfter) != 1 {
				t.Errorf("%s: %d taken over within %v", what, len(f.rec.tookAfter), most)
			}
			f.rec.tookAfter = nil
		}
		f.mu.Lock()
		f.rec.miss = true
		f.mu.Unlock()
		took("missed", 3*time.Second+hopPatience)
		f.lookTakes(time.Minute)
		f.begin(false)
		time.Sleep(hopPatience)
		f.lookTakes(0)
		time.Sleep(time.Minute)
		f.mu.Lock()
		f.rec.tookAfter = nil
		f.mu.Unlock()
		took("after a long look", hopPatience+500*time.Millisecond)
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnsweredRecursionsCostFewLooks has recursions answered at once: as long as they come one after the other, there is a look
// every 100 ms, and after a single one there is one, beside those every 3 s.
func TestAnsweredRecursionsCostFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, end := startRecursive(t)
		synctest.Wait()
		f.mu.Lock()
		f.rec.looks = 0
		f.mu.Unlock()
		for range 100 {
			f.begin(true)
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		f.mu.Lock()
		if f.rec.looks > 53 {
			t.Errorf("%d looks for 100 recursions in 5 s", f.rec.looks)
		}
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		f.mu.Lock()
		f.rec.looks = 0
		f.mu.Unlock()
		f.begin(true)
		time.Sleep(2 * time.Second)
		f.mu.Lock()
		if f.rec.looks > 2 {
			t.Errorf("%d looks for a single one", f.rec.looks)
		}
		f.mu.Unlock()
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestRecursionsReplied hands over what comes up with its reply, once.
func TestRecursionsReplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, end := startRecursive(t)
		f.took()
		from := netip.MustParseAddrPort("198.18.1.3:6881")
		f.rec.waiting["\x80bcd"+from.String()] = aRecursion()
		for _, tid := range []string{"\x00bcd", "\x80bc", "\x80bcde"} {
			f.rec.waiting[tid+from.String()] = aRecursion()
			if _, ok := f.rec.taker.Take([]byte(tid), from, func(*router.RecursionState) bool { return false }); ok {
				t.Errorf("%q is a transaction of the kernel half", tid)
			}
		}
		st, ok := f.rec.taker.Take([]byte("\x80bcd"), from, func(*router.RecursionState) bool { return false })
		if !ok || st.RTT != 20*time.Millisecond {
			t.Fatalf("taken: %v, RTT %v", ok, st.RTT)
		}
		checkState(t, st)
		if got := unanswered(t, &st); !maps.Equal(got, map[byte]string{4: "198.18.1.6:6881"}) { // the other one has answered just now
			t.Errorf("without answer: %v", got)
		}
		if _, ok := f.rec.taker.Take([]byte("\x80bcd"), from, func(*router.RecursionState) bool { return false }); ok {
			t.Error("taken twice")
		}
		f.rec.taker.Dismiss([4]byte{0x80, 1, 2, 4})
		expect(t, f, "answered", "dismiss 80010204")
		if r := h.Report().Recursion; r.Replied != 1 {
			t.Errorf("report %+v", r)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestPathsReported tells on how many paths recursions go on that begin at an interface, and why where it is one.
func TestPathsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, end := startRecursive(t)
		f.rec.attachments = []bpf.Attachment{{Ifindex: 1}, {Ifindex: 2, OnePath: errors.New("an old kernel")}}
		as := func(*link.Link) {}
		f.links <- []link.Link{eth(1, as), eth(2, as), eth(3, as)}
		synctest.Wait()
		var got []string
		for _, n := range h.Report().NICs {
			got = append(got, fmt.Sprintf("%d: %d %s", n.Index, n.Paths, n.OnePath))
		}
		if want := []string{"1: 3 ", "2: 1 an old kernel", "3: 0 "}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestDetachedLauncherIsNoticed has somebody detach what recursions need to have several paths: it is attached again or not, and the log and
// the report say so.
func TestDetachedLauncherIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, end := startRecursive(t)
		f.rec.attachments = []bpf.Attachment{{Ifindex: 1}, {Ifindex: 2}}
		ls := []link.Link{eth(1, func(*link.Link) {}), eth(2, func(*link.Link) {})}
		look := func() (paths []int) {
			f.links <- ls
			synctest.Wait()
			for _, n := range h.Report().NICs {
				paths = append(paths, n.Paths)
			}
			return paths
		}
		look()
		f.log.Reset()
		if got := look(); !slices.Equal(got, []int{3, 3}) || f.log.Len() > 0 {
			t.Errorf("paths %v, log %s", got, f.log.String())
		}
		f.rec.detached = map[int]bool{2: true}
		if got := look(); !slices.Equal(got, []int{3, 3}) || !strings.Contains(f.log.String(), "attached again") || !strings.Contains(f.log.String(), "index=2") {
			t.Errorf("paths %v, log %s", got, f.log.String())
		}
		f.log.Reset()
		f.rec.detached, f.rec.noRoom = map[int]bool{1: true}, errors.New("no room")
		if got := look(); !slices.Equal(got, []int{1, 3}) || !strings.Contains(f.log.String(), "one path from now on") || !strings.Contains(f.log.String(), "no room") {
			t.Errorf("paths %v, log %s", got, f.log.String())
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestEgress publishes the routes whenever they or the interfaces change.
func TestEgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, end := startRecursive(t)
		f.took()
		prefixed := func(l *link.Link) { l.Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.0.1/24")} }
		f.links <- []link.Link{eth(1, prefixed)}
		f.took()
		gateway := netip.MustParseAddr("198.18.0.254")
		f.rec.nexthops <- nexthop.Changes{All: true, Routes: []nexthop.Route{
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Ifindex: 1, Gateway: gateway}, {Prefix: netip.MustParsePrefix("::/0"), Ifindex: 1},
		}, Neighbours: []nexthop.Neighbour{{Ifindex: 1, Addr: gateway, MAC: [6]byte{2}}}}
		expect(t, f, "routes", "neighbours 1; routes 0.0.0.0/0 by 1 198.18.0.254 from 198.18.0.1:6881, ::/0 by 0 invalid IP from invalid AddrPort")
		f.rec.nexthops <- nexthop.Changes{Neighbours: []nexthop.Neighbour{{Addr: gateway}}, Gone: []nexthop.Neighbour{{Addr: gateway.Next()}}}
		expect(t, f, "neighbours", "add 198.18.0.254; remove 198.18.0.255")
		f.links <- []link.Link{eth(1, func(l *link.Link) { prefixed(l); l.Up = false })}
		expect(t, f, "down", "routes 0.0.0.0/0 by 0 invalid IP from invalid AddrPort, ::/0 by 0 invalid IP from invalid AddrPort")
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestRoutes chooses the address that queries of ours come from.
func TestRoutes(t *testing.T) {
	l := eth(3, func(l *link.Link) {
		for _, p := range []string{"192.168.1.7/24", "198.18.0.9/16", "203.0.113.5/24", "2001:db8::7/64", "fd00:1::7/64", "fe80::7/64"} {
			l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
		}
	})
	all := []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:6881"), netip.MustParseAddrPort("[::]:6882")}
	for _, c := range []struct {
		prefix, gateway, preferred string
		listen                     []netip.AddrPort
		want                       string // empty: it cannot be used
	}{
		{"0.0.0.0/0", "192.168.1.1", "", all, "192.168.1.7:6881"},
		{"0.0.0.0/0", "203.0.113.1", "", all, "203.0.113.5:6881"},
		{"0.0.0.0/0", "203.0.113.1", "198.18.0.9", all, "198.18.0.9:6881"},
		{"198.18.0.0/16", "", "", all, "198.18.0.9:6881"},
		{"::/0", "fe80::1", "", all, "[2001:db8::7]:6882"},
		{"fd00:1::/64", "", "", all, "[fd00:1::7]:6882"},
		{"::/0", "fe80::1", "", all[:1], ""},
		{"0.0.0.0/0", "192.168.1.1", "", []netip.AddrPort{netip.MustParseAddrPort("203.0.113.5:99")}, "203.0.113.5:99"},
		{"0.0.0.0/0", "192.168.1.1", "", []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:99")}, ""},
	} {
		r := nexthop.Route{Prefix: netip.MustParsePrefix(c.prefix), Ifindex: 3}
		if c.gateway != "" {
			r.Gateway = netip.MustParseAddr(c.gateway)
		}
		if c.preferred != "" {
			r.Source = netip.MustParseAddr(c.preferred)
		}
		got := kernel.Routes([]nexthop.Route{r}, []link.Link{l}, c.listen, map[int]bool{3: true})
		want := bpf.Route{Prefix: r.Prefix}
		if c.want != "" {
			want = bpf.Route{Prefix: r.Prefix, Ifindex: 3, MAC: l.MAC, Gateway: r.Gateway, Source: netip.MustParseAddrPort(c.want), Redirect: true}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s by %s:\n got %+v\nwant %+v", c.prefix, c.gateway, got, want)
		}
	}
	for what, change := range map[string]func(*link.Link){
		"down": func(l *link.Link) { l.Up = false }, "loopback": func(l *link.Link) { l.Loopback = true }, "a tunnel": func(l *link.Link) { l.Type = 65534 },
		"another": func(l *link.Link) { l.Index = 4 },
	} {
		l := l
		change(&l)
		if got := kernel.Routes([]nexthop.Route{{Prefix: netip.MustParsePrefix("198.18.0.0/16"), Ifindex: 3}}, []link.Link{l}, all, nil); got[0].Ifindex != 0 {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
