package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf"
	"kdht/bpf/limit"
)

// now is the time that the program sees, a little later.
func now() limit.Time {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return limit.Time(t.Nano())
}

// compareDestinations checks that the program has counted what the model has, at about the same times.
func compareDestinations(t testing.TB, p *bpf.Program, want *limit.Table) {
	t.Helper()
	const timeMask = 1<<40 - 1
	for i := range want {
		got, err := p.Destinations(uint32(i))
		must(t, err)
		for j, word := range want[i] {
			apart := min((word-got[j])&timeMask, (got[j]-word)&timeMask) // in ticks of 1,024 ns
			if (word^got[j])&^timeMask != 0 || apart > 1<<23 {
				t.Fatalf("destinations %d: %x, want %x", i, got, want[i])
			}
		}
	}
}

// lone is a table of one contact of each family, which is asked whatever the target.
func lone(r *rand.Rand) *bpf.Snapshot {
	s := snapshot(r, 1, 1)
	s.Nodes4[0] = [26]byte(append(slices.Clone(s.Nodes4[0][:20]), 198, 19, 5, 5, 0x1a, 0xe1))
	copy(s.Nodes6[0][20:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x1a, 0xe1})
	return s
}

// TestPaceTable gives both halves the same set of destinations, the same time and the same destination: the program asks it
// exactly if user space may, and what is counted is the same. A destination whose bucket is not full keeps its place.
func TestPaceTable(t *testing.T) {
	cpu := onCPU(t)
	r := rand.New(rand.NewPCG(13, 1))
	s := lone(r)
	one := [2]bpf.Snapshot{*s, *s} // of each family only
	one[0].Nodes6, one[1].Nodes4 = nil, nil
	p := recursive(t, s, true)
	pace := limit.Pace{Rate: 0.01, Burst: 5}
	_, window := pace.Params()
	setPace(t, p, pace)
	seen := map[bool]int{}
	for n := range pairs(t, 5000) {
		if n%500 == 0 {
			must(t, p.Publish(&one[n/500%2]))
		}
		end := []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}}[n/500%2]
		to := contactsOf(s, n/500%2 == 1)[0].Addr.Addr()
		// Where it is, and its hash, show in a table of its own.
		var probe limit.Table
		limit.NewDestinations(pace, p.Seed(), &probe).Reserve(to, 0, 0)
		set := slices.IndexFunc(probe[:], func(s limit.Set) bool { return s != limit.Set{} })
		place := slices.IndexFunc(probe[set][:], func(w uint64) bool { return w != 0 })
		h := limit.Hash(probe[set][place]&^(1<<41-1) | uint64(set)<<30 | uint64(place)<<27)
		clock, err := p.Clock(cpu)
		must(t, err)
		table := new(limit.Table)
		table[set] = randomSet(r, h, clock, window+1<<21)
		if r.IntN(2) == 0 { // all places taken, but perhaps one
			free := r.IntN(16)
			for i := range table[set] {
				if i != free {
					table[set][i] = r.Uint64()&^(1<<41-1) | (uint64(clock)>>10+1<<18+r.Uint64N(window))&(1<<40-1)
				}
			}
		}
		must(t, p.PutDestinations(uint32(set), table[set]))
		verdict, _ := run(t, p, queryTo(end.to, end.from, rdQuery("get", fmt.Sprint(n), randomID(r))).frame(t))
		clock, err = p.Clock(cpu)
		must(t, err)
		_, ok := limit.NewDestinations(pace, p.Seed(), table).Reserve(to, clock, 0)
		got, err := p.Destinations(uint32(set))
		must(t, err)
		if (verdict == xdpTX) != ok || got != table[set] {
			t.Fatalf("%d: verdict %d, user space says %v; set\n%x, user space has\n%x", n, verdict, ok, got, table[set])
		}
		seen[ok]++
		takeAll(t, p)
	}
	t.Logf("%v", seen)
	if seen[true] < 100 || seen[false] < 100 {
		t.Errorf("not all outcomes were seen often: %v", seen)
	}
}

// TestPace has many clients ask for what is closest to one node: it is sent no more than the burst, then come the next ones
// among the closest, and at last user space. What user space has sent counts.
func TestPace(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 2))
	for _, end := range []struct {
		s    *bpf.Snapshot
		to   netip.AddrPort
		from func(i int) netip.AddrPort
	}{
		{snapshot(r, 30, 0), node4, func(i int) netip.AddrPort { return netip.AddrPortFrom(asker4.Addr(), uint16(1024+i)) }},
		{snapshot(r, 0, 30), node6, func(i int) netip.AddrPort { return netip.AddrPortFrom(asker6.Addr(), uint16(1024+i)) }},
	} {
		s, v6 := end.s, end.to.Addr().Is6()
		p := recursive(t, s, true)
		sent := setPace(t, p, limit.Pace{Rate: 0.01, Burst: 8})
		aim := randomID(r)
		var order []bpf.Node // as they are to be asked, each 8 times
		m := recursionModel{private: true, state: bpf.Recursion{Target: aim}}
		rest := closestContacts(s, aim, v6)
		for {
			m.state.Client = end.from(0)
			hop, ok := m.choose(rest, id([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")))
			if !ok {
				break
			}
			order = append(order, hop)
			rest = slices.DeleteFunc(rest, func(n bpf.Node) bool { return n == hop })
		}
		if len(order) < 3 {
			t.Fatalf("%d contacts to ask", len(order))
		}
		earlier := now() - limit.Time(time.Second) // the program's clock has ticks
		for range 3 {                              // user space was here before
			if wait, ok := sent.Reserve(order[0].Addr.Addr(), earlier, 0); !ok || wait != 0 {
				t.Fatal("no token at first")
			}
		}
		i := 0
		ask := func() (verdict uint32, out []byte) {
			i++
			if i%40 == 0 {
				takeAll(t, p)
			}
			return run(t, p, queryTo(end.to, end.from(i), rdQuery("get", fmt.Sprint(i), aim)).frame(t))
		}
		for n, hop := range order {
			for range 8 - 3*map[bool]int{true: 1}[n == 0] {
				verdict, out := ask()
				want := (&recursionModel{self: map[bool]id{false: s.ID4, true: s.ID6}[v6], own: end.to,
					state: bpf.Recursion{Method: "get", Target: aim, Path: bpf.Path{Asked: []bpf.Node{hop}}}})
				if verdict != xdpTX || string(out) != string(want.query(t, hopTID(t, out))) {
					t.Fatalf("query %d: verdict %d, not to contact %d: %x", i, verdict, n, out)
				}
			}
			if wait, ok := sent.Reserve(hop.Addr.Addr(), now(), time.Second); ok {
				t.Errorf("user space may send contact %d more, after %v", n, wait)
			}
		}
		expect(t, p, "recursion_paced", "all were sent enough", queryTo(end.to, end.from(0), rdQuery("get", "last", aim)).frame(t))
		takeAll(t, p)
	}
}

// TestPacedReferral follows a referral to the next best node if the best was sent enough, as long as it is closer; user
// space goes on where there is none, and knows of all.
func TestPacedReferral(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 3))
	s := snapshot(r, 20, 20)
	p := recursive(t, s, true)
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		sent := setPace(t, p, limit.Pace{Rate: 0.01, Burst: 1})
		aim := randomID(r)
		v6 := end.to.Addr().Is6()
		at := func(bits, n int) bpf.Node {
			c := bpf.Node{ID: idAt(r, aim, bits), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 9, byte(n)}), 6881)}
			if v6 {
				c.Addr = netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:9::%x]:6881", n))
			}
			return c
		}
		out, hop := begun(t, p, s, end.to, end.from, "aa", aim)
		best, next := at(120, 1), at(100, 2)
		sent.Reserve(best.Addr.Addr(), now(), 0)
		referral := func(tid []byte, from bpf.Node, nodes ...bpf.Node) []byte {
			return datagram{from: from.Addr, to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(tid, from.ID, v6, nodes)}.frame(t)
		}
		verdict, out := run(t, p, referral(hopTID(t, out), hop, next, best))
		want := recursionModel{self: map[bool]id{false: s.ID4, true: s.ID6}[v6], own: end.to, state: bpf.Recursion{Method: "get", Target: aim, Path: bpf.Path{Asked: []bpf.Node{next}}}}
		if verdict != xdpTX || string(out) != string(want.query(t, hopTID(t, out))) {
			t.Fatalf("verdict %d, not to the next best: %x", verdict, out)
		}
		tid := slices.Clone(hopTID(t, out))
		expect(t, p, "hop_paced", "the only closer one was sent enough", referral(tid, next, best, at(50, 3)))
		got, ok, err := p.TakeRecursion(tid, next.Addr, nil)
		must(t, err)
		if !ok || !slices.Contains(got.Referral, best) {
			t.Errorf("user space does not hear of the best: %+v", got)
		}
	}
}
