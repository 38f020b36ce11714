package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// Limits of the tests: numbers so far apart that no run of the program takes long enough to blur them.
var (
	oneEach  = limit.Config{Rate: 0.01, Burst: 5, Exempt: []netip.Prefix{netip.MustParsePrefix("198.18.99.0/24"), netip.MustParsePrefix("2001:db8:0:99::/64")}}
	usedUp   = limit.Budget(1 << 62)
	asSecret = [16]byte{1, 2, 3}
)

// onCPU keeps the test on one CPU, and returns its number.
func onCPU(t testing.TB) int {
	t.Helper()
	runtime.LockOSThread()
	var old, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &old))
	cpu := 0
	for !old.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	must(t, unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() {
		must(t, unix.SchedSetaffinity(0, &old))
		runtime.UnlockOSThread()
	})
	return cpu
}

// limited is the shared program with limits and a table, to which all sources are new.
func limited(t testing.TB, c limit.Config) (*bpf.Program, *bpf.Snapshot) {
	t.Helper()
	s := snapshot(rand.New(rand.NewPCG(12, 1)), 200, 60)
	p := program(t, s)
	forget := func() { must(t, p.ForgetSources()) }
	forget()
	c.Secret = asSecret
	must(t, p.SetLimits(c))
	t.Cleanup(func() {
		must(t, p.SetLimits(limit.Config{}))
		forget()
	})
	return p, s
}

// TestSourceLimit sends more than a source may: what is too much is dropped, that of others is not, nor that of exempt ones. An
// IPv6 /64 is one source. So do datagrams that user space would judge.
func TestSourceLimit(t *testing.T) {
	p, _ := limited(t, oneEach)
	at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 6881) }
	short := []byte("d1:y1:qe")
	for _, e := range []struct {
		to, from, again netip.AddrPort
	}{
		{node4, at("198.18.1.1"), at("198.18.1.1")},
		{node6, at("2001:db8:0:3::1"), at("2001:db8:0:3:ffff::2")},
	} {
		for range 5 {
			expect(t, p, "answered/ping", "within the burst", queryTo(e.to, e.from, []byte(ping)).frame(t))
		}
		expect(t, p, "limited", "one too many", queryTo(e.to, e.again, []byte(ping)).frame(t))
		expect(t, p, "limited", "not looked at", queryTo(e.to, e.from, short).frame(t))
	}
	expect(t, p, "answered/ping", "another IPv4 address", queryTo(node4, at("198.18.1.2"), []byte(ping)).frame(t))
	expect(t, p, "answered/ping", "another /64", queryTo(node6, at("2001:db8:0:4::1"), []byte(ping)).frame(t))
	for _, e := range []struct{ to, from netip.AddrPort }{{node4, at("198.18.99.1")}, {node6, at("2001:db8:0:99::1")}} {
		for range 20 {
			expect(t, p, "answered/find_node", "exempt", queryTo(e.to, e.from, []byte(findNode)).frame(t))
		}
	}
	for range 5 {
		expect(t, p, "too_short", "within the burst", queryTo(node4, at("198.18.1.3"), short).frame(t))
	}
	expect(t, p, "limited", "one too many", queryTo(node4, at("198.18.1.3"), short).frame(t))
}

// A prefix of all IPv6 addresses says nothing about IPv4 ones: neither are they exempt from limits by it, nor may they ask for recursion.
func TestIPv6PrefixesAreNotForIPv4(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("198.18.1.1:6881"), netip.MustParseAddrPort("[2001:db8:0:3::1]:6881")
	for _, prefix := range []string{"::/0", "::/80"} {
		all := netip.MustParsePrefix(prefix)
		c := oneEach
		c.Exempt = []netip.Prefix{all}
		p, _ := limited(t, c)
		for _, e := range []struct{ to, from netip.AddrPort }{{node4, v4}, {node6, v6}} {
			outcome := "limited"
			if all.Contains(e.from.Addr()) {
				outcome = "answered/ping"
			}
			for range 5 {
				expect(t, p, "answered/ping", "within the burst", queryTo(e.to, e.from, []byte(ping)).frame(t))
			}
			expect(t, p, outcome, prefix, queryTo(e.to, e.from, []byte(ping)).frame(t))
		}
		p, _ = limited(t, limit.Config{})
		recursionFor(t, p, all)
		expect(t, p, "answered/find_node", prefix, queryTo(node4, v4, rdQuery("find_node", "aa", id{})).frame(t))
		c.Exempt = append(c.Exempt, netip.MustParsePrefix("198.18.0.0/15"))
		must(t, p.SetLimits(c))
		for range 20 {
			expect(t, p, "answered/ping", "named", queryTo(node4, v4, []byte(ping)).frame(t))
		}
	}
}

// TestSourceTable gives both halves the same sets of sources, the same time and the same datagram: verdict and set afterwards
// must be the same.
func TestSourceTable(t *testing.T) {
	cpu := onCPU(t)
	c := oneEach
	p, _ := limited(t, c)
	params := c.Params()
	r := rand.New(rand.NewPCG(12, 2))
	seen := map[string]int{}
	for n := range pairs(t, 20000) {
		d := datagramFor(r, []byte(ping))
		if r.IntN(8) == 0 {
			d = queryTo(node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 99, byte(1 + r.IntN(250))}), 9), []byte(ping))
		}
		h := limit.HashOf(p.Seed(), d.from.Addr())
		now, err := p.Clock(cpu)
		must(t, err)
		set := randomSet(r, h, now, params.Window)
		must(t, p.SetSources(h.Set(), set))
		verdict, _ := run(t, p, d.frame(t))
		now, err = p.Clock(cpu)
		must(t, err)
		ok, exempt := set.Take(params, h, now, func() bool { return c.IsExempt(d.from.Addr()) })
		got, err := p.Sources(h.Set())
		must(t, err)
		if (verdict == xdpTX) != ok || got != set {
			t.Fatalf("%d: verdict %d, user space says %v; set\n%x, user space has\n%x", n, verdict, ok, got, set)
		}
		seen[fmt.Sprintf("ok %v exempt %v", ok, exempt)]++
	}
	t.Logf("%v", seen)
	if len(seen) != 3 {
		t.Errorf("not all outcomes were seen: %v", seen)
	}
}

// randomSet fills a set with sources of all kinds of past, often the one of h among them.
func randomSet(r *rand.Rand, h limit.Hash, now limit.Time, window uint64) (s limit.Set) {
	for i := range s {
		tag := r.Uint64() &^ (1<<41 - 1)
		if r.IntN(6) == 0 {
			tag = uint64(h) &^ (1<<41 - 1)
		}
		ahead := r.Uint64N(window + window/4)
		switch r.IntN(4) {
		case 0:
			ahead = -r.Uint64N(1 << 39)
		case 1:
			ahead = window - min(window, r.Uint64N(1<<20))
		}
		s[i] = tag | (uint64(now)>>10+ahead)&(1<<40-1)
		if r.IntN(8) == 0 {
			s[i] |= 1 << 40
		}
	}
	return s
}

// TestChallenge asks when the budget for long replies is used up: pings are answered without the asker's address, everything
// else with a challenge, byte for byte as user space does, and never with more bytes than the query had. Whoever answers the
// challenge is answered from then on; nothing else that could be sent proves anything.
func TestChallenge(t *testing.T) {
	cpu := onCPU(t)
	p, s := limited(t, limit.Config{Growth: 1 << 20})
	v := view(t, s)
	secret := limit.Config{Secret: asSecret}
	r := rand.New(rand.NewPCG(12, 3))
	must(t, p.SetBudgets(usedUp))
	for range pairs(t, 5000) {
		_, q := query(r, s)
		d := datagramFor(r, q)
		verdict, out := run(t, p, d.frame(t))
		now, err := p.Clock(cpu)
		must(t, err)
		want := v.Challenge(nil, router.FamilyOf(d.from.Addr()), secret.Cookie(d.from, now))
		if bytes.Contains(q, []byte("1:q4:ping")) {
			var m krpc.Message
			must(t, krpc.Decode(q, &m))
			want = v.Lean(nil, router.FamilyOf(d.from.Addr()), m.TID)
		}
		if full := userSpace(t, v, q, d.from); len(full) <= len(q) {
			want = full // costs nothing
		}
		if frame := d.answer(want).frame(t); verdict != xdpTX || !bytes.Equal(out, frame) {
			t.Fatalf("%q: verdict %d\n got %q\nwant %q", q, verdict, out, frame)
		}
		if len(want) > len(q) {
			t.Fatalf("%d bytes for a query of %d: %q", len(want), len(q), q)
		}
	}

	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		ask := func(reason, name string, from netip.AddrPort, q string) {
			t.Helper()
			expect(t, p, reason, name, queryTo(end.to, from, []byte(q)).frame(t))
		}
		other := netip.AddrPortFrom(end.from.Addr(), end.from.Port()+1)
		ask("challenged", "at first", end.from, findNode)
		_, out := run(t, p, queryTo(end.to, end.from, []byte(findNode)).frame(t))
		at := bytes.Index(out, []byte("1:t8:")) + 5
		cookie := string(out[at:][:8])
		reply := "d1:rd2:id20:" + anID + "e1:t8:" + cookie + "1:y1:re"
		wrong := []byte(reply)
		wrong[len(wrong)-9] ^= 1
		old := []byte(cookie)
		old[0] -= 2
		for name, q := range map[string]string{
			"a changed cookie": string(wrong), "an old cookie": strings.Replace(reply, cookie, string(old), 1),
			"the challenge itself": "d1:ad2:id20:" + anID + "e1:q4:ping1:t8:" + cookie + "1:y1:qe",
		} {
			run(t, p, queryTo(end.to, end.from, []byte(q)).frame(t))
			ask("challenged", "after "+name, end.from, findNode)
		}
		before := counts(t, p)["event/proven"]
		ask("not_query", "the cookie of another port", other, reply)
		ask("challenged", "after the cookie of another port", end.from, getPeers)
		for _, q := range []string{reply, strings.Replace(reply, "1:y1:re", "1:v4:LT\x02\x081:y1:re", 1)} {
			run(t, p, queryTo(end.to, end.from, []byte(q)).frame(t))
		}
		if n := counts(t, p)["event/proven"] - before; n != 2 {
			t.Errorf("%d proofs counted, want 2", n)
		}
		for _, q := range []string{ping, findNode, getPeers, get} {
			if d := queryTo(end.to, end.from, []byte(q)); !compare(t, p, v, d) {
				t.Errorf("%q of a proven source is not answered", q)
			}
		}
		_, out = run(t, p, queryTo(end.to, other, []byte(findNode)).frame(t))
		if !bytes.Contains(out, []byte("nodes")) {
			t.Errorf("another port of a proven address got %q", out)
		}
	}
}

// TestGrowth spends the budget for long replies: it is exact to the byte, does not count pings from proven sources, and comes
// back with time.
func TestGrowth(t *testing.T) {
	cpu := onCPU(t)
	p, s := limited(t, limit.Config{Growth: 2_000})
	v := view(t, s)
	c := limit.Config{Growth: 2_000}
	params := c.Params()
	must(t, p.SetBudgets(0))
	d := queryTo(node4, asker4, []byte(findNode))
	by := len(userSpace(t, v, d.payload, d.from)) - len(d.payload)
	var mine limit.Budget
	answered := 0
	for range 200 {
		_, out := run(t, p, d.frame(t))
		now, err := p.Clock(cpu)
		must(t, err)
		want := mine.Grow(params, by, now)
		if got := bytes.Contains(out, []byte("5:nodes")); got != want {
			t.Fatalf("after %d answers: answered %v, user space says %v", answered, got, want)
		}
		if got, err := p.Growth(); err != nil || got != mine {
			t.Fatalf("budget %d, user space has %d (%v)", got, mine, err)
		}
		if want {
			answered++
		}
	}
	if least := 2_000 / by; answered < least || answered == 200 {
		t.Errorf("%d answers of %d bytes more, want at least %d and less than 200", answered, by, least)
	}
	before := mine
	must(t, p.Prove(asker4.Addr()))
	if !compare(t, p, v, d) {
		t.Error("a proven source is not answered")
	}
	if after, err := p.Growth(); err != nil || after != before {
		t.Errorf("a proven source was charged: %d, %d, %v", before, after, err)
	}
}

// TestUnproven uses up what user space takes from unproven sources: what is long enough is challenged, the rest is dropped. Sources that
// are proven, or were asked by us, get through, and exempt ones have a budget of their own.
func TestUnproven(t *testing.T) {
	c := limit.Config{Unproven: 1000, Exempt: oneEach.Exempt}
	p, _ := limited(t, c)
	vote := strings.Replace(findNode, "9:find_node", "4:vote", 1)
	reply := "d1:rd2:id20:" + anID + "e1:t4:aaaa1:v4:LT\x02\x081:y1:re"
	at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 6881) }
	must(t, p.SetBudgets(0))
	expect(t, p, "other_method", "while the budget lasts", queryTo(node4, asker4, []byte(vote)).frame(t))
	must(t, p.SetBudgets(usedUp))
	expect(t, p, "answered/find_node", "not for user space", queryTo(node4, asker4, []byte(findNode)).frame(t))
	for _, e := range []struct{ to, from, exempt, asked, proven netip.AddrPort }{
		{node4, asker4, at("198.18.99.1"), at("198.18.5.1"), at("198.18.5.2")},
		{node6, asker6, at("2001:db8:0:99::1"), at("2001:db8:0:51::1"), at("2001:db8:0:52::1")},
	} {
		expect(t, p, "challenged", "long enough", queryTo(e.to, e.from, []byte(vote)).frame(t))
		expect(t, p, "overloaded", "too short", queryTo(e.to, e.from, []byte("d1:y1:qe")).frame(t))
		expect(t, p, "overloaded", "a reply that nobody waits for", queryTo(e.to, e.from, []byte(reply)).frame(t))
		must(t, p.SetBudgets(0))
		must(t, p.SpendUnproven())
		expect(t, p, "other_method", "exempt", queryTo(e.to, e.exempt, []byte(vote)).frame(t))
		must(t, p.SetBudgets(usedUp))
		must(t, p.Expect(e.asked.Addr()))
		expect(t, p, "not_query", "a reply that we wait for", queryTo(e.to, e.asked, []byte(reply)).frame(t))
		must(t, p.Prove(e.proven.Addr()))
		expect(t, p, "other_method", "proven", queryTo(e.to, e.proven, []byte(vote)).frame(t))
	}
}

// TestUnprovenHop has user space take nothing more from unproven sources: what a node says that the program has asked for a client gets
// through nevertheless, though the program itself does not understand it.
func TestUnprovenHop(t *testing.T) {
	r := rand.New(rand.NewPCG(55, 1))
	s := snapshot(r, 30, 30)
	p := recursive(t, s, true)
	must(t, p.SetLimits(limit.Config{Unproven: 1000}))
	t.Cleanup(func() { must(t, p.SetLimits(limit.Config{})) })
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		must(t, p.SetBudgets(usedUp))
		out, hop := begun(t, p, s, end.to, end.from, fmt.Sprint(serial.Add(1)), randomID(r))
		tid := hopTID(t, out)
		for reason, payload := range map[string]string{
			"too_long":      fmt.Sprintf("d1:rd2:id20:%s5:token4:abcd1:v900:%se1:t4:%s1:v4:LT\x02\x081:y1:re", hop.ID[:], strings.Repeat("x", 900), tid),
			"not_canonical": fmt.Sprintf("d1:rd2:id20:%s5:nodes0:e1:si1e1:si1e1:t4:%s1:v4:LT\x02\x081:y1:re", hop.ID[:], tid),
		} {
			expect(t, p, reason, "from the node that was asked", datagram{from: hop.Addr, to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: []byte(payload)}.frame(t))
			stranger := datagram{from: netip.AddrPortFrom(end.from.Addr().Next(), 6881), to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: []byte(payload)}
			expect(t, p, "challenged", "from a stranger", stranger.frame(t))
		}
	}
}

// TestProofTable compares how the halves find proofs in the same sets.
func TestProofTable(t *testing.T) {
	cpu := onCPU(t)
	p, _ := limited(t, limit.Config{Growth: 1 << 20})
	must(t, p.SetBudgets(usedUp))
	r := rand.New(rand.NewPCG(12, 4))
	seen := map[bool]int{}
	for n := range pairs(t, 10000) {
		d := datagramFor(r, []byte(findNode))
		h := limit.HashOf(p.Seed(), d.from.Addr())
		now, err := p.Clock(cpu)
		must(t, err)
		set := randomSet(r, h, now, 1800*uint64(time.Second)>>10)
		must(t, p.SetProofs(h.Set(), set))
		before := counts(t, p)["challenged"]
		run(t, p, d.frame(t))
		now, err = p.Clock(cpu)
		must(t, err)
		want := set.Known(h, now, false)
		if got := counts(t, p)["challenged"] == before; got != want {
			t.Fatalf("%d: proven %v, user space says %v, of %x", n, got, want, set)
		}
		if got, err := p.Proofs(h.Set()); err != nil || got != set {
			t.Fatalf("%d: the set was changed: %x, %v", n, got, err)
		}
		seen[want]++
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("not all outcomes were seen: %v", seen)
	}
}

// TestLimitErrors gives limits that cannot be kept.
func TestLimitErrors(t *testing.T) {
	p, _ := limited(t, limit.Config{})
	for _, c := range []limit.Config{{Exempt: []netip.Prefix{{}}}, {Exempt: manyPrefixes(1025)}} {
		if err := p.SetLimits(c); err == nil || !strings.Contains(err.Error(), bpf.ErrLimits.Error()) {
			t.Errorf("%d prefixes: %v", len(c.Exempt), err)
		}
	}
	must(t, p.SetLimits(limit.Config{Exempt: manyPrefixes(1024)}))
	must(t, p.SetLimits(limit.Config{}))
}

func manyPrefixes(n int) (all []netip.Prefix) {
	for i := range n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i)<<8)
		all = append(all, netip.PrefixFrom(netip.AddrFrom4(a), 24))
	}
	return all
}
