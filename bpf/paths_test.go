package bpf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/router/krpc"
)

// launching returns the shared program as recursive does, with recursions that have several paths.
func launching(t testing.TB, s *bpf.Snapshot, private bool) *bpf.Program {
	t.Helper()
	p := recursive(t, s, private)
	must(t, p.SetLauncher(1, true))
	t.Cleanup(func() { must(t, p.SetLauncher(1, false)) })
	return p
}

// launched has the program begin a recursion, and returns the queries that are to be launched.
func launched(t testing.TB, p *bpf.Program, frame []byte) [][]byte {
	t.Helper()
	verdict, note := run(t, p, frame)
	if verdict != xdpPass || len(note) != len(frame) || !bytes.Equal(note[:12], frame[:12]) || binary.BigEndian.Uint16(note[12:]) != bpf.LaunchNote {
		t.Fatalf("verdict %d, no note: %x", verdict, note)
	}
	frames, by, err := p.TakeFlight(note[14:18])
	must(t, err)
	for _, i := range by {
		if i != 1 {
			t.Errorf("leaves by interface %d", i)
		}
	}
	return frames
}

// pathsModel is what a recursion with several paths must be, done in user space.
type pathsModel struct {
	paths []*recursionModel
	asked []netip.AddrPort // on any path
}

// choose is recursionModel.choose for a path, which keeps away from what the others have asked.
func (w *pathsModel) choose(m *recursionModel, contacts []bpf.Node, closest id) (bpf.Node, bool) {
	apart := slices.DeleteFunc(slices.Clone(contacts), func(c bpf.Node) bool {
		return slices.ContainsFunc(w.asked, func(a netip.AddrPort) bool { return sameHost(a, c.Addr, m.private) })
	})
	return m.choose(apart, closest)
}

// ask notes that a path goes on to a node, checks the query, and returns its transaction ID.
func (w *pathsModel) ask(t testing.TB, m *recursionModel, next bpf.Node, frame []byte) {
	t.Helper()
	m.state.Asked = append(m.state.Asked, next)
	w.asked = append(w.asked, next.Addr)
	m.state.Transaction = [4]byte(hopTID(t, frame))
	if want := m.query(t, m.state.Transaction[:]); !bytes.Equal(frame, want) {
		t.Fatalf("hop %d to %v\n got %x\nwant %x", len(m.state.Asked), next.Addr, frame, want)
	}
}

// TestPathsDifferential carries clients' queries through made-up networks on several paths, with replies in any order, and
// compares the queries of ours, who is asked on which path, which path ends when, and what is taken over with a model in user space.
func TestPathsDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(46, 1))
	seen := map[string]int{}
	for n := range max(pairs(t, 100000)/4000, 4) {
		s := snapshot(r, r.IntN(2)*r.IntN(40), r.IntN(2)*r.IntN(40))
		switch n { // whatever the number of rounds
		case 0:
			s = snapshot(r, 1, 0)
		case 1:
			s = snapshot(r, 30, 30)
		case 2:
			s = snapshot(r, 0, 0)
		}
		s.ReadOnly4, s.ReadOnly6 = r.IntN(4) == 0, r.IntN(4) == 0
		private := r.IntN(2) == 0
		p := launching(t, s, private)
		for range 40 {
			v6 := r.IntN(2) == 0
			to, method, aim := node4, []string{"find_node", "get_peers", "get", "get"}[r.IntN(4)], target(r, s)
			if v6 {
				to = node6
			}
			tid := fmt.Sprint(serial.Add(1))
			d := datagramFor(r, rdQuery(method, tid, aim))
			for d.to != to || d.vlans != nil {
				d = datagramFor(r, rdQuery(method, tid, aim))
			}
			w := new(pathsModel)
			var first []bpf.Node
			all := id(bytes.Repeat([]byte{255}, 20))
			for len(w.paths) < bpf.MaxPaths {
				var best *recursionModel
				var next bpf.Node
				closest := all
				for _, six := range []bool{v6, !v6} {
					m := &recursionModel{self: s.ID4, readOnly: s.ReadOnly4, private: private, own: node4, state: bpf.Recursion{Client: d.from, Entry: to, Method: method, Target: aim, TID: []byte(tid)}}
					if six {
						m.self, m.readOnly, m.own = s.ID6, s.ReadOnly6, node6
					}
					if c, ok := w.choose(m, closestContacts(s, aim, six), closest); ok {
						best, next, closest = m, c, m.distance
					}
					if best != nil && method != "get" {
						break
					}
				}
				if best == nil {
					break
				}
				best.distance = closest
				w.paths, first, w.asked = append(w.paths, best), append(first, next), append(w.asked, next.Addr)
			}
			if len(w.paths) == 0 {
				seen["nobody"]++
				expect(t, p, "recursion_no_contact", "nobody to ask", d.frame(t))
				continue
			}
			seen[fmt.Sprintf("%d paths", len(w.paths))]++
			frames := launched(t, p, d.frame(t))
			if len(frames) != len(w.paths) {
				t.Fatalf("%d paths, want %d", len(frames), len(w.paths))
			}
			w.asked = nil
			for i, m := range w.paths {
				w.ask(t, m, first[i], frames[i])
				if m.own != to {
					seen["other family"]++
				}
			}
			w.carry(t, r, p, seen)
			expect(t, p, "recursion_taken", "once more", d.frame(t))
		}
		c := counts(t, p)
		seen["kept apart"], seen["own ID"] = int(c["event/referral_other_path"]), int(c["event/referral_own"])
	}
	t.Log(seen)
	for _, what := range []string{"nobody", "1 paths", "3 paths", "other family", "followed", "hop_ended", "hop_no_closer", "hop_answer", "hop_error", "hop_other_id", "kept apart"} {
		if seen[what] == 0 {
			t.Errorf("%s did not happen", what)
		}
	}
}

// carry has nodes answer until the recursion goes up.
func (w *pathsModel) carry(t testing.TB, r *rand.Rand, p *bpf.Program, seen map[string]int) {
	t.Helper()
	live := slices.Clone(w.paths)
	for {
		m := live[r.IntN(len(live))]
		v6 := m.own == node6
		last := m.state.Asked[len(m.state.Asked)-1]
		m.before = nil
		for _, other := range w.paths {
			if other != m && other.own == m.own {
				m.before = append(m.before, other.state.Asked...)
			}
		}
		refs := referrals(r, m, r.IntN(12-2*len(m.state.Asked)/3), v6)
		reply := datagram{from: last.Addr, to: m.own, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(m.state.Transaction[:], last.ID, v6, refs)}
		next, ok := w.choose(m, refs, m.distance)
		reason, end := "", bpf.NobodyCloser
		switch {
		case r.IntN(12) == 0:
			reply.payload, reason, end = fmt.Appendf(nil, "d1:eli202e12:Server Errore1:t4:%s1:v4:LT\x02\x081:y1:ee", m.state.Transaction[:]), "hop_error", bpf.Failed
		case r.IntN(20) == 0:
			reply.payload, reason, end = response(m.state.Transaction[:], id([]byte(anID)), v6, refs), "hop_other_id", bpf.Failed
		case r.IntN(12) == 0:
			reply.payload, reason = fmt.Appendf(nil, "d1:rd2:id20:%s1:v5:helloe1:t4:%s1:y1:re", last.ID[:], m.state.Transaction[:]), "hop_answer"
		case !ok:
			reason = "hop_no_closer"
		case len(m.state.Asked) == bpf.MaxHops:
			reason = "hop_limit"
		}
		frame := reply.frame(t)
		kept := refs[:min(len(refs), map[bool]int{false: 11, true: 8}[v6])]
		switch {
		case reason == "":
			verdict, out := run(t, p, frame)
			if verdict != xdpTX {
				t.Fatalf("hop %d: verdict %d", len(m.state.Asked), verdict)
			}
			w.ask(t, m, next, out)
			m.state.Referral = kept
			expect(t, p, "hop_late", "the same reply again", frame)
			seen["followed"]++
			continue
		case reason != "hop_answer" && len(live) > 1:
			before := counts(t, p)["hop_ended"]
			if verdict, _ := run(t, p, frame); verdict != xdpDrop || counts(t, p)["hop_ended"] != before+1 {
				t.Fatalf("the end of a path: verdict %d", verdict)
			}
			if m.state.End = end; end == bpf.NobodyCloser {
				m.state.Referral = kept
			}
			live = slices.DeleteFunc(live, func(o *recursionModel) bool { return o == m })
			expect(t, p, "hop_late", "a reply on a path that has ended", frame)
			seen["hop_ended"]++
			seen[reason]++
			continue
		}
		expect(t, p, reason, "up", frame)
		seen[reason]++
		w.compare(t, p, m, last)
		for _, other := range w.paths {
			o := other.state.Asked[len(other.state.Asked)-1]
			late := datagram{from: o.Addr, to: other.own, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(other.state.Transaction[:], o.ID, other.own == node6, nil)}
			if other != m && slices.Contains(live, other) {
				expect(t, p, "hop_taken", "a reply on another path of what was taken over", late.frame(t))
				must(t, p.Dismiss(other.state.Transaction))
			}
			expect(t, p, "hop_late", "a reply that nobody waits for", late.frame(t))
		}
		return
	}
}

// compare takes the recursion over by a path whose last node has answered, and compares all that is known of it.
func (w *pathsModel) compare(t testing.TB, p *bpf.Program, m *recursionModel, last bpf.Node) {
	t.Helper()
	got, ok, err := p.TakeRecursion(m.state.Transaction[:], last.Addr, nil)
	if err != nil || !ok {
		t.Fatalf("nothing to take over: %v", err)
	}
	if got.Begun < got.Sent || got.Begun > time.Minute {
		t.Errorf("begun %v, sent %v ago", got.Begun, got.Sent)
	}
	got.Begun, got.Sent = 0, 0
	others := got.Others
	got.Others = nil
	if fmt.Sprint(got) != fmt.Sprint(m.state) {
		t.Fatalf("state\n got %+v\nwant %+v", got, m.state)
	}
	if len(others) != len(w.paths)-1 {
		t.Fatalf("%d other paths, want %d", len(others), len(w.paths)-1)
	}
	for _, other := range w.paths {
		if other == m {
			continue
		}
		i := slices.IndexFunc(others, func(o bpf.Path) bool { return o.Transaction == other.state.Transaction })
		if i < 0 {
			t.Fatalf("a path is missing: %+v", other.state.Path)
		}
		others[i].Sent = 0
		if fmt.Sprint(others[i]) != fmt.Sprint(other.state.Path) {
			t.Fatalf("another path\n got %+v\nwant %+v", others[i], other.state.Path)
		}
	}
}

// threePaths has the program begin a recursion on three paths, and returns the nodes that are asked first and the transaction IDs.
func threePaths(t testing.TB, p *bpf.Program, s *bpf.Snapshot, aim id) (asked []bpf.Node, tids [][]byte) {
	t.Helper()
	frames := launched(t, p, queryTo(node4, asker4, rdQuery("get", fmt.Sprint(serial.Add(1)), aim)).frame(t))
	if len(frames) != bpf.MaxPaths {
		t.Fatalf("%d paths", len(frames))
	}
	contacts := contactsOf(s, false)
	for _, f := range frames {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(f[30:])), binary.BigEndian.Uint16(f[36:]))
		asked = append(asked, contacts[slices.IndexFunc(contacts, func(c bpf.Node) bool { return c.Addr == to })])
		tids = append(tids, slices.Clone(hopTID(t, f)))
	}
	return asked, tids
}

// replyOf is the frame with a node's reply.
func replyOf(t testing.TB, from bpf.Node, payload []byte) []byte {
	t.Helper()
	return datagram{from: from.Addr, to: node4, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: payload}.frame(t)
}

// closerTo is a node that is closer to aim than another, and that nobody knows.
func closerTo(aim id, than bpf.Node) bpf.Node {
	n := serial.Add(1)
	return bpf.Node{ID: idAt(rand.New(rand.NewPCG(uint64(n), 1)), aim, commonPrefix(aim, than.ID)+1), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(n >> 8), byte(n)}), 6881)}
}

// drops runs a frame and fails unless it is dropped for that reason.
func drops(t testing.TB, p *bpf.Program, reason string, frame []byte) {
	t.Helper()
	before := counts(t, p)[reason]
	if verdict, _ := run(t, p, frame); verdict != xdpDrop || counts(t, p)[reason] != before+1 {
		t.Errorf("verdict %d, not dropped as %s", verdict, reason)
	}
}

// TestErrorEndsItsPathOnly answers on one path with an error: the others go on, and user space hears of it with the end of the last.
func TestErrorEndsItsPathOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(52, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	for _, e := range []string{"d1:eli201e0:e1:t4:%s1:y1:ee", "d1:eli204e14:Method Unknowne1:t4:%s1:y1:ee", "d1:eli202e12:Server Errore2:ip6:abcdef1:t4:%s1:v4:LT\x02\x081:y1:ee"} {
		aim := randomID(r)
		asked, tids := threePaths(t, p, s, aim)
		drops(t, p, "hop_ended", replyOf(t, asked[0], fmt.Appendf(nil, e, tids[0])))
		if late, others, err := p.TakeOverdue(time.Minute, time.Hour); err != nil || len(late) != 0 || others.Count != 1 {
			t.Fatalf("%s: %d taken over, %d go on: %v", e, len(late), others.Count, err)
		}
		next := closerTo(aim, asked[1])
		verdict, out := run(t, p, replyOf(t, asked[1], response(tids[1], asked[1].ID, false, []bpf.Node{next})))
		if verdict != xdpTX {
			t.Fatalf("%s: another path does not go on: verdict %d", e, verdict)
		}
		tid := slices.Clone(hopTID(t, out))
		drops(t, p, "hop_ended", replyOf(t, asked[2], response(tids[2], asked[2].ID, false, nil)))
		expect(t, p, "hop_error", "the last path", replyOf(t, next, fmt.Appendf(nil, e, tid)))
		got, ok, err := p.TakeRecursion(tid, next.Addr, nil)
		if err != nil || !ok || len(got.Others) != 2 {
			t.Fatalf("%s: taken over %v %+v: %v", e, ok, got, err)
		}
		for _, o := range got.Others {
			if want := map[netip.AddrPort]bpf.End{asked[0].Addr: bpf.Failed, asked[2].Addr: bpf.NobodyCloser}[o.Asked[0].Addr]; o.End != want {
				t.Errorf("%s: path %+v, want its end to be %d", e, o, want)
			}
		}
	}
}

// TestSilenceEndsItsPathOnly has the node of one path say nothing for longer than one may take: user space takes over once no other path goes
// on.
func TestSilenceEndsItsPathOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	old := time.Duration(now()) / 2 // the clock began with the machine
	patience := old / 2
	must(t, p.SetPatience(patience))
	t.Cleanup(func() { must(t, p.SetPatience(0)) })
	overdue := func(what string, taken, underWay int) []bpf.Recursion {
		t.Helper()
		late, others, err := p.TakeOverdue(patience, time.Hour)
		if err != nil || len(late) != taken || others.Count != underWay {
			t.Fatalf("%s: %d taken over, %d under way, want %d and %d: %v", what, len(late), others.Count, taken, underWay, err)
		}
		return late
	}
	nobody := func(n bpf.Node, tid []byte) []byte { return replyOf(t, n, response(tid, n.ID, false, nil)) }

	aim := randomID(r)
	asked, tids := threePaths(t, p, s, aim)
	must(t, p.AgePath(tids[0], old))
	overdue("two go on", 0, 1)
	drops(t, p, "hop_ended", nobody(asked[1], tids[1]))
	overdue("one goes on", 0, 1)
	expect(t, p, "hop_no_closer", "the last that has answered", nobody(asked[2], tids[2]))
	got, ok, err := p.TakeRecursion(tids[2], asked[2].Addr, nil)
	if err != nil || !ok || len(got.Others) != 2 {
		t.Fatalf("taken over %v %+v: %v", ok, got, err)
	}
	overdue("none", 0, 0)
	expect(t, p, "hop_taken", "the silent node after all", nobody(asked[0], tids[0]))

	asked, tids = threePaths(t, p, s, aim)
	drops(t, p, "hop_ended", nobody(asked[0], tids[0]))
	must(t, p.AgePath(tids[1], old))
	overdue("one goes on, one has ended", 0, 1)
	must(t, p.AgePath(tids[2], old))
	if late := overdue("none goes on", 1, 0); len(late[0].Others) != 2 {
		t.Errorf("taken over %+v", late)
	}

	// A silent node may still answer, and its path goes on.
	asked, tids = threePaths(t, p, s, aim)
	must(t, p.AgePath(tids[0], old))
	if verdict, _ := run(t, p, replyOf(t, asked[0], response(tids[0], asked[0].ID, false, []bpf.Node{closerTo(aim, asked[0])}))); verdict != xdpTX {
		t.Errorf("a late answer that is not too late: verdict %d", verdict)
	}
	must(t, p.AgePath(tids[1], old))
	must(t, p.AgePath(tids[2], old))
	overdue("it goes on again", 0, 1)
	if late, _, err := p.TakeOverdue(patience, 0); err != nil || len(late) != 1 || len(late[0].Others) != 2 {
		t.Errorf("the time for the whole is over: %d taken over: %v", len(late), err)
	}
}

// TestAnsweredAtOnce answers the client with the first answer: it is called once, with what was known of that path, and then nobody waits
// for the others.
func TestAnsweredAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(55, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	for _, answered := range []bool{true, false} {
		asked, tids := threePaths(t, p, s, randomID(r))
		answer := func(i int) []byte {
			return replyOf(t, asked[i], fmt.Appendf(nil, "d1:rd2:id20:%s1:v5:helloe1:t4:%s1:y1:re", asked[i].ID[:], tids[i]))
		}
		expect(t, p, "hop_answer", "the first", answer(0))
		var early []bpf.Recursion
		got, ok, err := p.TakeRecursion(tids[0], asked[0].Addr, func(r *bpf.Recursion) bool {
			early = append(early, *r)
			return answered
		})
		if err != nil || !ok || len(got.Others) != 2 {
			t.Fatalf("taken over %v %+v: %v", ok, got, err)
		}
		got.Others = nil
		if len(early) != 1 || fmt.Sprint(early[0]) != fmt.Sprint(got) {
			t.Errorf("known at once %+v, in the end %+v", early, got)
		}
		want := map[bool]string{true: "hop_late", false: "hop_taken"}[answered]
		expect(t, p, want, "another answer", answer(1))
		expect(t, p, want, "the third", answer(2))
		must(t, p.Dismiss([4]byte(tids[1])))
		must(t, p.Dismiss([4]byte(tids[2])))
	}
}

// nextRound waits until the program's rounds of 2^25 ns have gone on, by the clock that it reads: in a virtual machine that is short of CPU it
// may stand still for long.
func nextRound(t testing.TB) {
	t.Helper()
	round := func() int64 {
		var ts unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts))
		return ts.Nano() >> 25
	}
	for begun := round(); round() == begun; runtime.Gosched() {
	}
}

// TestLateAnswers answers on all paths of a recursion that user space has taken over with the first answer: what it waits for goes up, and
// nothing else, whoever has used up what unproven sources may send it. A sender who is dropped is seen.
func TestLateAnswers(t *testing.T) {
	r := rand.New(rand.NewPCG(54, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	must(t, p.SetLimits(limit.Config{Unproven: 1}))
	t.Cleanup(func() { must(t, p.SetLimits(limit.Config{})) })
	must(t, p.SetBudgets(usedUp))
	aim := randomID(r)
	asked, tids := threePaths(t, p, s, aim)
	answer := func(i int) []byte {
		return replyOf(t, asked[i], fmt.Appendf(nil, "d1:rd2:id20:%s5:token4:abcd1:v5:helloe1:t4:%s1:v4:LT\x02\x081:y1:re", asked[i].ID[:], tids[i]))
	}
	expect(t, p, "hop_answer", "the first", answer(0))
	got, ok, err := p.TakeRecursion(tids[0], asked[0].Addr, nil)
	if err != nil || !ok || len(got.Others) != 2 {
		t.Fatalf("taken over %v %+v: %v", ok, got, err)
	}
	expect(t, p, "hop_late", "the first once more", answer(0))
	expect(t, p, "hop_taken", "one that is waited for", answer(1))
	expect(t, p, "hop_taken", "and again", answer(1))
	must(t, p.Dismiss([4]byte(tids[1])))
	must(t, p.Dismiss([4]byte(tids[2])))
	must(t, p.AgeSightings(3600))
	readSightings(t, p)
	nextRound(t)
	before := counts(t, p)["event/sighting"]
	expect(t, p, "hop_late", "no more", answer(1))
	expect(t, p, "hop_late", "never", answer(2))
	if n := counts(t, p)["event/sighting"] - before; n != 2 {
		t.Errorf("%d of 2 senders were seen", n)
	}
	expect(t, p, "hop_late", "twice", answer(2))
	expect(t, p, "hop_late", "an error", replyOf(t, asked[2], fmt.Appendf(nil, "d1:eli204e14:Method Unknowne1:t4:%s1:y1:ee", tids[2])))
	if n := counts(t, p)["event/sighting"] - before; n != 2 {
		t.Errorf("%d sightings of 2 senders", n)
	}
	must(t, p.Dismiss([4]byte(tids[2]))) // it is no error if there is nothing
}

// TestPathsOverdue takes over a recursion as a whole, and not because a path has ended.
func TestPathsOverdue(t *testing.T) {
	r := rand.New(rand.NewPCG(47, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	asked, tids := threePaths(t, p, s, randomID(r))
	if late, others, err := p.TakeOverdue(time.Hour, time.Hour); err != nil || len(late) != 0 || others.Count != 1 {
		t.Errorf("%d late, %d others: %v", len(late), others.Count, err)
	}
	late, others, err := p.TakeOverdue(0, time.Hour)
	if err != nil || len(late) != 1 || len(late[0].Others) != bpf.MaxPaths-1 || others.Count != 0 {
		t.Errorf("%d late, %d others: %v", len(late), others.Count, err)
	}
	for i := range asked { // user space waits for all of them
		expect(t, p, "hop_taken", "an answer after the take-over", replyOf(t, asked[i], response(tids[i], asked[i].ID, false, nil)))
	}
}

// TestNextOverdue says how long it takes until a recursion is overdue: until the node that was asked last, on any path that goes on, is late, or
// until the time for the whole is over.
func TestNextOverdue(t *testing.T) {
	r := rand.New(rand.NewPCG(48, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	next := func(what string, hop, whole, want time.Duration) {
		t.Helper()
		late, others, err := p.TakeOverdue(hop, whole)
		if err != nil || len(late) != 0 || others.Next > want || others.Next < want-want/4 {
			t.Errorf("%s: %d late, the next in %v, want %v: %v", what, len(late), others.Next, want, err)
		}
	}
	next("none", time.Hour, time.Hour, 0)
	aim := randomID(r)
	asked, tids := threePaths(t, p, s, aim)
	old := time.Duration(now()) / 2 // the clock began with the machine
	next("all were asked just now", 4*old, 100*old, 4*old)
	next("the time for the whole", 4*old, 2*old, 2*old)
	must(t, p.AgePath(tids[0], old))
	must(t, p.AgePath(tids[1], old))
	next("one was asked just now", 4*old, 100*old, 4*old)
	drops(t, p, "hop_ended", replyOf(t, asked[2], response(tids[2], asked[2].ID, false, nil)))
	next("two are left, asked some time ago", 4*old, 100*old, 3*old)
	if verdict, _ := run(t, p, replyOf(t, asked[0], response(tids[0], asked[0].ID, false, []bpf.Node{closerTo(aim, asked[0])}))); verdict != xdpTX {
		t.Fatalf("verdict %d", verdict)
	}
	next("one has gone on", 4*old, 100*old, 4*old)
}

// TestRecursionsAreHeardOf tells of recursions that begin, and once of all that begin while that is being seen to.
func TestRecursionsAreHeardOf(t *testing.T) {
	r := rand.New(rand.NewPCG(49, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	begin := func(n int) {
		for range n {
			threePaths(t, p, s, randomID(r))
			takeAll(t, p)
		}
	}
	begin(1) // before somebody listens
	heard, seen := make(chan struct{}), make(chan struct{})
	calls := 0
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- p.Recursions(ctx, func() {
			calls++
			heard <- struct{}{}
			<-seen
		})
	}()
	hear := func() {
		t.Helper()
		select {
		case <-heard:
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		}
	}
	hear()
	begin(5)
	seen <- struct{}{}
	hear()
	seen <- struct{}{}
	begin(1)
	hear()
	cancel()
	seen <- struct{}{}
	must(t, <-ended)
	if calls != 3 {
		t.Errorf("told %d times, want once for what had begun, once for the five, and once more", calls)
	}
}

// TestPathsPaced passes over nodes that were sent enough already, and takes as many as are left.
func TestPathsPaced(t *testing.T) {
	r := rand.New(rand.NewPCG(48, 1))
	s := snapshot(r, 30, 0)
	p := launching(t, s, true)
	setPace(t, p, limit.Pace{Rate: 0.001, Burst: 1})
	aim, asked := randomID(r), 0
	for n := 0; ; n++ {
		d := queryTo(node4, asker4, rdQuery("get", fmt.Sprintf("p%d", n), aim))
		if asked == bpf.BucketSize {
			expect(t, p, "recursion_paced", "all were asked", d.frame(t))
			break
		}
		frames := launched(t, p, d.frame(t))
		if want := min(bpf.MaxPaths, bpf.BucketSize-asked); len(frames) != want {
			t.Fatalf("%d paths, want %d", len(frames), want)
		}
		asked += len(frames)
	}
}

// TestPathsOfLocalSenders takes one path for what a local sender left for hardware to finish.
func TestPathsOfLocalSenders(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(50, 1)), 30, 30)
	p := launching(t, s, true)
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		d := queryTo(end.to, end.from, rdQuery("get", fmt.Sprint(serial.Add(1)), randomID(rand.New(rand.NewPCG(50, 2)))))
		frame := d.frame(t)
		binary.BigEndian.PutUint16(frame[d.l4()+6:], d.pseudoSum())
		if verdict, _ := run(t, p, frame); verdict != xdpTX {
			t.Errorf("%v: verdict %d", end.to, verdict)
		}
		if all := takeAll(t, p); len(all) != 1 || len(all[0].Others) != 0 {
			t.Errorf("%v: under way %+v", end.to, all)
		}
	}
}

// TestLauncherAttaches finds that the kernel has what several paths need: all stock kernels do.
func TestLauncherAttaches(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	var all []bpf.Attachment
	must(t, inOwnNamespace(func() error {
		if _, err := p.Attach(1, bpf.ModeGeneric); err != nil { // its loopback interface
			return err
		}
		all = p.Attachments()
		return p.Detach(1)
	}))
	if len(all) != 1 || all[0].OnePath != nil {
		t.Errorf("attached to %+v", all)
	}
}

// TestLostNotes begins recursions whose notes nobody gets, more than there is room for, and then one that is launched.
func TestLostNotes(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 1))
	p := launching(t, snapshot(r, 30, 30), true)
	begin := func(i int) []byte {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 1024)
		return queryTo(node4, client, rdQuery("get", fmt.Sprint(serial.Add(1)), randomID(r))).frame(t)
	}
	before := counts(t, p)
	const lost = 600
	for i := range lost {
		run(t, p, begin(i))
	}
	if n := counts(t, p)["recursion_begun"] - before["recursion_begun"]; n < lost-10 { // where nobody is closer there is none
		t.Errorf("%d of %d recursions have begun", n, lost)
	}
	if n := counts(t, p)["recursion_full"] - before["recursion_full"]; n > 0 {
		t.Errorf("for %d there was no room", n)
	}
	if frames := launched(t, p, begin(lost)); len(frames) != bpf.MaxPaths {
		t.Errorf("%d queries are launched, want %d", len(frames), bpf.MaxPaths)
	}
}

// TestLauncherComesFirst attaches to an interface that has a program of somebody else, which lets every frame pass.
func TestLauncherComesFirst(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	must(t, err)
	defer foreign.Close()
	var first, others ebpf.ProgramID
	must(t, inOwnNamespace(func() error {
		other, err := link.AttachTCX(link.TCXOptions{Interface: 1, Program: foreign, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		defer other.Close()
		if _, err := p.Attach(1, bpf.ModeGeneric); err != nil {
			return err
		}
		all, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		if len(all.Programs) != 2 {
			return fmt.Errorf("%d programs are attached", len(all.Programs))
		}
		info, err := foreign.Info()
		if err != nil {
			return err
		}
		first = all.Programs[0].ID
		others, _ = info.ID()
		return p.Detach(1)
	}))
	if first == others {
		t.Error("the foreign program comes first, and ends the chain")
	}
}

// detachAsSomebodyElse detaches the launcher of the loopback interface of this thread's namespace.
func detachAsSomebodyElse() error {
	all, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	if len(all.Programs) != 1 {
		return fmt.Errorf("%d programs are attached", len(all.Programs))
	}
	id, ok := all.Programs[0].LinkID()
	if !ok {
		return fmt.Errorf("not attached by a link")
	}
	l, err := link.NewFromID(id)
	if err != nil {
		return err
	}
	return errors.Join(l.Detach(), l.Close())
}

// fill attaches as many foreign programs to the loopback interface of this thread's namespace as there may be, and returns what
// detaches them.
func fill() (empty func() error, err error) {
	var all []io.Closer
	empty = func() (err error) {
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	for range 100 { // the kernel's BPF_MPROG_MAX is 64
		foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
		if err != nil {
			return nil, errors.Join(err, empty())
		}
		all = append(all, foreign)
		l, err := link.AttachTCX(link.TCXOptions{Interface: 1, Program: foreign, Attach: ebpf.AttachTCXIngress})
		if errors.Is(err, unix.ERANGE) {
			return empty, nil
		}
		if err != nil {
			return nil, errors.Join(err, empty())
		}
		all = append(all, l)
	}
	return nil, errors.Join(errors.New("there is still room"), empty())
}

// TestDetachedLauncher has somebody else detach the launcher: recursions have one path until it is attached again, and while it cannot be.
func TestDetachedLauncher(t *testing.T) {
	program(t, &bpf.Snapshot{})
	for _, c := range []bpf.Config{{}, {PinDir: pinDir(t)}} {
		p := private(t, c)
		check := func(what string, lost, several bool) error {
			was, err := p.Relaunch(1)
			launches, errLaunches := p.Launches(1)
			all := p.Attachments()
			if was != lost || (err == nil) != several || launches != several || errLaunches != nil || len(all) != 1 || (all[0].OnePath == nil) != several {
				return fmt.Errorf("%s: lost %v (%w), launches %v, attached to %+v", what, was, err, launches, all)
			}
			return nil
		}
		must(t, inOwnNamespace(func() error {
			if _, err := p.Attach(1, bpf.ModeGeneric); err != nil {
				return err
			}
			if err := errors.Join(check("at first", false, true), detachAsSomebodyElse()); err != nil {
				return err
			}
			if all := p.Attachments(); len(all) != 1 || all[0].OnePath == nil {
				return fmt.Errorf("not noticed: %+v", all)
			}
			if err := errors.Join(check("detached", true, true), check("attached again", false, true), detachAsSomebodyElse()); err != nil {
				return err
			}
			empty, err := fill()
			if err != nil {
				return err
			}
			return errors.Join(check("no room", true, false), check("no room yet", false, false), empty(), check("there is room again", false, true), p.Detach(1))
		}))
		if launches, err := p.Launches(1); launches || err != nil {
			t.Errorf("%+v: recursions still have several paths: %v", c, err)
		}
		if lost, err := p.Relaunch(1); lost || err != nil {
			t.Errorf("where nothing is attached: %v, %v", lost, err)
		}
	}
}

// TestLauncherLeft has a predecessor leave a launcher that somebody detaches, and that cannot be attached again: recursions have one path.
func TestLauncherLeft(t *testing.T) {
	program(t, &bpf.Snapshot{})
	dir := pinDir(t)
	must(t, inOwnNamespace(func() error {
		first, err := bpf.Load(bpf.Config{PinDir: dir})
		if err != nil {
			return err
		}
		if _, err := first.Attach(1, bpf.ModeGeneric); err != nil {
			return errors.Join(err, first.Close(true))
		}
		if err := errors.Join(first.Close(false), detachAsSomebodyElse()); err != nil {
			return err
		}
		empty, err := fill()
		if err != nil {
			return err
		}
		defer empty() //nolint:errcheck // the namespace ends
		second, err := bpf.Load(bpf.Config{PinDir: dir})
		if err != nil {
			return err
		}
		defer second.Close(true)
		before, err := second.Launches(1)
		if err != nil || !before {
			return fmt.Errorf("the predecessor has left no note: %w", err)
		}
		if _, err := second.Attach(1, bpf.ModeAuto); err != nil {
			return err
		}
		after, err := second.Launches(1)
		if all := second.Attachments(); err != nil || after || len(all) != 1 || all[0].OnePath == nil {
			return fmt.Errorf("launches %v, attached to %+v: %w", after, all, err)
		}
		return nil
	}))
}

// TestLauncherCost lets all frames pass that are none of its notes, and prints what that costs each of them beside a program that does nothing.
func TestLauncherCost(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	const next = 1<<32 - 1 // TCX_NEXT
	nothing, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	must(t, err)
	defer nothing.Close()
	unknown := queryTo(node4, asker4, []byte(ping)).frame(t)
	binary.BigEndian.PutUint16(unknown[12:], bpf.LaunchNote) // a note of somebody else's: there is no such flight
	for name, frame := range map[string][]byte{"IPv4": queryTo(node4, asker4, []byte(ping)).frame(t), "IPv6": queryTo(node6, asker6, []byte(ping)).frame(t), "another's note": unknown} {
		var best, idle time.Duration
		for range 3 {
			verdict, took, err := p.TimeLauncher(frame, pairs(t, 200000))
			must(t, err)
			if verdict != next {
				t.Fatalf("%s: verdict %d", name, int32(verdict))
			}
			_, without, err := nothing.Benchmark(frame, pairs(t, 200000), nil)
			must(t, err)
			if best == 0 || took < best {
				best = took
			}
			if idle == 0 || without < idle {
				idle = without
			}
		}
		t.Logf("latency: %s in the launcher: %v, in a program that does nothing %v", name, best, idle)
	}
}

// inOwnNamespace calls f by a thread in a network namespace of its own, with which it ends.
func inOwnNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// TestLaunch sends the queries of several paths onto a wire, in either mode, of either family, and nothing else.
func TestLaunch(t *testing.T) {
	node, asker := wire(t)
	for _, a := range []netip.AddrPort{node4, node6} {
		must(t, node.IP("addr", "add", netip.PrefixFrom(a.Addr(), map[bool]int{true: 16, false: 32}[a.Addr().Is4()]).String(), "dev", "wire"))
	}
	r := rand.New(rand.NewPCG(49, 1))
	s := &bpf.Snapshot{ID4: randomID(r), ID6: randomID(r)}
	everybody := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	by := index(t, node, "wire")
	aim := randomID(r)
	var contacts []netip.AddrPort // the closest three are of both families
	for i := range 3 {
		c4 := bpf.Node{ID: idAt(r, aim, 20+2*i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 9, byte(1 + i)}), 6881)}
		c6 := bpf.Node{ID: idAt(r, aim, 21+2*i), Addr: netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:0:9::%x]:6881", 1+i))}
		s.Nodes4, s.Nodes6 = append(s.Nodes4, [26]byte(compact([]bpf.Node{c4}))), append(s.Nodes6, [38]byte(compact([]bpf.Node{c6})))
		contacts = append(contacts, c4.Addr, c6.Addr)
	}
	p := program(t, s)
	recursionFor(t, p, everybody...)
	must(t, p.SetRoutes([]bpf.Route{
		{Prefix: everybody[0], Ifindex: by, MAC: [6]byte(nodeMAC), Gateway: gateway4, Source: node4},
		{Prefix: everybody[1], Ifindex: by, MAC: [6]byte(nodeMAC), Gateway: gateway6, Source: node6},
	}))
	must(t, p.SetNeighbours([]bpf.Neighbour{
		{Ifindex: by, Addr: gateway4, MAC: [6]byte(askerMAC)}, {Ifindex: by, Addr: gateway6, MAC: [6]byte(askerMAC)},
	}))
	// The asker's host has the addresses of all who are asked, and they listen.
	addrs := append(slices.Clone(contacts), asker4, asker6)
	conns := map[netip.AddrPort]*net.UDPConn{}
	for _, a := range addrs {
		must(t, asker.IP("addr", "add", netip.PrefixFrom(a.Addr(), map[bool]int{true: 16, false: 32}[a.Addr().Is4()]).String(), "dev", "wire", "nodad"))
		conn, err := in(asker, func() (*net.UDPConn, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) })
		must(t, err)
		defer conn.Close()
		conns[a] = conn
	}
	for _, mode := range []bpf.Mode{bpf.ModeNative, bpf.ModeGeneric} {
		attached(t, p, node, by, mode)
		for _, a := range p.Attachments() {
			if a.OnePath != nil {
				t.Fatalf("one path: %v", a.OnePath)
			}
		}
		for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
			_, err := conns[end.from].WriteToUDPAddrPort(rdQuery("get", fmt.Sprintf("%v%v", mode, end.to.Addr().Is6()), aim), end.to)
			must(t, err)
			for i, c := range contacts {
				conn := conns[c]
				if i < len(contacts)-bpf.MaxPaths { // they are in rising order of closeness
					continue
				}
				must(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
				b := make([]byte, 2000)
				n, from, err := conn.ReadFromUDPAddrPort(b)
				if err != nil {
					t.Fatalf("%v mode, %v asked: %v has no query: %v", mode, end.to, c, err)
				}
				var q krpc.Message
				if err := krpc.Decode(b[:n], &q); err != nil || q.Method != krpc.MethodGet || q.Target != krpc.ID(aim) || from.Addr().Is4() != c.Addr().Is4() {
					t.Errorf("%v mode: from %v %q", mode, from, b[:n])
				}
			}
			if all := takeAll(t, p); len(all) != 1 || len(all[0].Others) != bpf.MaxPaths-1 {
				t.Errorf("%v mode: under way %+v", mode, all)
			}
		}
	}
}
