package bpf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kdht/bpf"
)

// private loads a program of the test's own, which has not been given anything yet.
func private(t testing.TB, c bpf.Config) *bpf.Program {
	t.Helper()
	program(t, &bpf.Snapshot{}) // skips the test where nothing can be loaded
	p, err := bpf.Load(c)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(true)) })
	return p
}

func TestNoSnapshot(t *testing.T) {
	p := private(t, bpf.Config{})
	must(t, p.SetEndpoints([]netip.AddrPort{node4, node6}))
	must(t, p.Renew(time.Hour))
	expect(t, p, "no_snapshot", "before the first Publish", queryTo(node4, asker4, []byte(ping)).frame(t))
	must(t, p.Publish(&bpf.Snapshot{}))
	expect(t, p, "answered/ping", "after it", queryTo(node4, asker4, []byte(ping)).frame(t))
}

func TestLease(t *testing.T) {
	p := private(t, bpf.Config{})
	must(t, p.SetEndpoints([]netip.AddrPort{node4}))
	must(t, p.Publish(&bpf.Snapshot{}))
	frame := queryTo(node4, asker4, []byte(ping)).frame(t)
	expect(t, p, "no_lease", "before the first Renew", frame)
	must(t, p.Renew(time.Hour))
	expect(t, p, "answered/ping", "while the lease runs", frame)
	must(t, p.Renew(0))
	expect(t, p, "no_lease", "ended", frame)
	must(t, p.Renew(time.Hour))
	expect(t, p, "answered/ping", "renewed", frame)

	must(t, p.Renew(50*time.Millisecond))
	deadline := time.Now().Add(time.Minute)
	for {
		verdict, _ := run(t, p, frame)
		if verdict == xdpPass {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a lease of 50 ms ran for a minute")
		}
	}
	expect(t, p, "no_lease", "expired", frame)
}

// keys lists n keys.
func keys(n int) iter.Seq[[20]byte] {
	return func(yield func([20]byte) bool) {
		r := rand.New(rand.NewPCG(9, 9))
		for range n {
			if !yield(randomID(r)) {
				return
			}
		}
	}
}

func ask(t testing.TB, method, key string, k id) []byte {
	payload := fmt.Appendf(nil, "d1:ad2:id20:%s%s20:%se1:q%d:%s1:t2:aa1:y1:qe", anID, key, k[:], len(method), method)
	return queryTo(node4, asker4, payload).frame(t)
}

func TestHeld(t *testing.T) {
	p := program(t, snapshot(rand.New(rand.NewPCG(5, 1)), 20, 20))
	n := 200
	if testing.Short() {
		n = 20 // emulated machines are slow
	}
	all := slices.Collect(keys(n))
	check := func(key id, held bool) {
		t.Helper()
		for _, q := range []struct{ method, key string }{{"get", "6:target"}, {"get_peers", "9:info_hash"}, {"find_node", "6:target"}} {
			verdict, _ := run(t, p, ask(t, q.method, q.key, key))
			if passed := verdict == xdpPass; passed != (held && q.method != "find_node") {
				t.Errorf("%s of %x: verdict %d, want held: %v", q.method, key, verdict, held)
			}
		}
	}
	near := all[0] // shares its first bits with all[0], so the filter does not tell them apart
	near[19] ^= 1
	check(all[0], false)
	must(t, p.Hold(all[0]))
	must(t, p.Hold(all[0]))
	check(all[0], true)
	expect(t, p, "held", "get", ask(t, "get", "6:target", all[0]))
	expect(t, p, "held", "get_peers", ask(t, "get_peers", "9:info_hash", all[0]))
	check(near, false)
	must(t, p.Hold(near))
	must(t, p.Release(near))
	check(all[0], true)
	check(near, false)
	must(t, p.Release(all[0]))
	must(t, p.Release(all[0]))
	check(all[0], false)

	must(t, p.HoldAll(slices.Values(all[:n/4*3])))
	for i, k := range all {
		check(k, i < n/4*3)
	}
	must(t, p.HoldAll(slices.Values(all[n/2:])))
	for i, k := range all {
		check(k, i >= n/2)
	}
	must(t, p.HoldAll(slices.Values(all[:0])))
	for _, k := range all {
		check(k, false)
	}
}

// TestSettings checks what is refused.
func TestSettings(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	for _, a := range []string{"0.0.0.0:1", "[::]:1", "224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1", "198.18.0.1:0"} {
		if err := p.SetEndpoints([]netip.AddrPort{netip.MustParseAddrPort(a)}); !errors.Is(err, bpf.ErrEndpoint) {
			t.Errorf("SetEndpoints(%s) = %v", a, err)
		}
	}
	if err := p.SetEndpoints([]netip.AddrPort{{}}); !errors.Is(err, bpf.ErrEndpoint) {
		t.Errorf("SetEndpoints of nothing valid = %v", err)
	}
	for _, a := range []netip.AddrPort{{}, netip.MustParseAddrPort("0.0.0.0:0")} {
		if err := p.SetEndpoints([]netip.AddrPort{node4}, a); !errors.Is(err, bpf.ErrEndpoint) {
			t.Errorf("SetEndpoints for many at %v = %v", a, err)
		}
	}
	frame := queryTo(node4, asker4, []byte(ping)).frame(t)
	expect(t, p, "answered/ping", "after refused endpoints", frame)

	r := rand.New(rand.NewPCG(6, 1))
	self := randomID(r)
	bucket := &bpf.Snapshot{ID4: self}
	for range 9 {
		i := idAt(r, self, 3)
		bucket.Nodes4 = append(bucket.Nodes4, [26]byte(append(i[:], 1, 2, 3, 4, 5, 6)))
	}
	own := &bpf.Snapshot{ID6: self, Nodes6: [][38]byte{{}}}
	copy(own.Nodes6[0][:], self[:])
	twice := &bpf.Snapshot{ID4: self, Nodes4: [][26]byte{bucket.Nodes4[0], bucket.Nodes4[0]}}
	many := &bpf.Snapshot{Bits: 5, ID4: self}
	for i := range bpf.MaxBuckets + 1 {
		c := idAt(r, self, i/16)
		for bit := range 4 { // after the level's own
			at := i/16 + 1 + bit
			c[at/8] = c[at/8]&^(0x80>>(at%8)) | byte(i>>bit&1)<<(7-at%8)
		}
		many.Nodes4 = append(many.Nodes4, [26]byte(append(c[:], 1, 2, 3, 4, 5, 6)))
	}
	for name, s := range map[string]*bpf.Snapshot{
		"nine in a bucket": bucket, "our own ID": own, "an ID twice": twice, "too many buckets": many,
		"levels of 6 bits": {Bits: 6}, "levels of -1 bits": {Bits: -1},
	} {
		if err := p.Publish(s); !errors.Is(err, bpf.ErrSnapshot) {
			t.Errorf("Publish with %s = %v", name, err)
		}
		if err := s.Check(); !errors.Is(err, bpf.ErrSnapshot) {
			t.Errorf("Check with %s = %v", name, err)
		}
	}
	expect(t, p, "answered/ping", "after refused snapshots", frame)
}

// TestEndpoints checks that each of many endpoints is ours, and only as long as it is said to be.
func TestEndpoints(t *testing.T) {
	p := program(t, &bpf.Snapshot{})
	all := []netip.AddrPort{
		node4, netip.MustParseAddrPort("198.18.0.1:64"), // falls on the same bit as port 0
		node6, netip.MustParseAddrPort("198.18.0.2:6881"), netip.MustParseAddrPort("198.18.0.1:6882"),
		netip.MustParseAddrPort("[2001:db8:0:1::2]:6881"), netip.MustParseAddrPort("[::ffff:198.18.0.3]:6945"),
		netip.MustParseAddrPort("[fe80::1%eth0]:6881"),
	}
	for n := len(all); n >= 0; n-- {
		must(t, p.SetEndpoints(all[:n]))
		for i, a := range all {
			to := netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
			from := asker4
			if to.Addr().Is6() {
				from = asker6
			}
			want := "not_ours"
			if i < n {
				want = "answered/ping"
			}
			expect(t, p, want, a.String(), queryTo(to, from, []byte(ping)).frame(t))
		}
		for _, unset := range []string{"0.0.0.0:0", "[::]:0"} {
			from := asker4
			to := netip.MustParseAddrPort(unset)
			if to.Addr().Is6() {
				from = asker6
			}
			expect(t, p, "not_ours", unset, queryTo(to, from, []byte(ping)).frame(t))
		}
	}
}

// TestVersion checks that replies carry the version they are told.
func TestVersion(t *testing.T) {
	p := private(t, bpf.Config{Version: [4]byte{'X', 'Y', 2, 3}})
	ready(t, p, nil, &bpf.Snapshot{})
	if _, out := run(t, p, queryTo(node4, asker4, []byte(ping)).frame(t)); !bytes.Contains(out, []byte("1:v4:XY\x02\x031:y1:re")) {
		t.Errorf("reply %q", out)
	}
}

// TestPublishIsAtomic queries while the table changes: each reply is wholly that of one table or of the other.
func TestPublishIsAtomic(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	tables := []*bpf.Snapshot{snapshot(r, 1280, 1280), snapshot(r, 1280, 1280)}
	tables[1].ID4, tables[1].ID6 = randomID(r), randomID(r)
	tables[1].Nodes4, tables[1].Nodes6 = nil, nil
	for _, c := range table(r, tables[1].ID4, tables[1].Bits, 1280, 26) {
		tables[1].Nodes4 = append(tables[1].Nodes4, [26]byte(c))
	}
	p := program(t, tables[0])
	payload := []byte("d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q3:get1:t2:aa1:y1:qe")
	d := queryTo(node6, asker6, payload)
	frame := d.frame(t)
	want := make([][]byte, 2)
	for i, s := range tables {
		want[i] = d.answer(userSpace(t, view(t, s), payload, asker6)).frame(t)
	}
	if bytes.Equal(want[0], want[1]) {
		t.Fatal("the tables give the same reply")
	}
	var done atomic.Bool
	var seen [2]atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				verdict, out, err := p.Run(frame)
				switch {
				case err != nil || verdict != xdpTX:
					t.Errorf("verdict %d, error %v", verdict, err)
					return
				case bytes.Equal(out, want[0]):
					seen[0].Add(1)
				case bytes.Equal(out, want[1]):
					seen[1].Add(1)
				default:
					t.Errorf("a reply from neither table: %q", out)
					return
				}
			}
		})
	}
	rounds := min(50, 1+pairs(t, 100000)/1000)
	for i := range rounds {
		at := seen[i%2].Load()
		must(t, p.Publish(tables[i%2]))
		for seen[i%2].Load() == at && !t.Failed() { // until a reader has seen it
			must(t, p.Renew(time.Hour))
		}
	}
	done.Store(true)
	readers.Wait()
	t.Logf("%d tables published, %d and %d replies from either", rounds, seen[0].Load(), seen[1].Load())
}

func TestSightings(t *testing.T) {
	p := private(t, bpf.Config{Looks: math.MaxUint32})
	ready(t, p, nil, &bpf.Snapshot{})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan bpf.Sighting, 100)
	ended := make(chan error)
	go func() { ended <- p.Sightings(ctx, func(s bpf.Sighting) { got <- s }) }()

	events := func() uint64 { return counts(t, p)["event/sighting"] }
	query := func(payload string, to, from netip.AddrPort) (reported bool) {
		t.Helper()
		before := events()
		run(t, p, queryTo(to, from, []byte(payload)).frame(t))
		return events() != before
	}
	sighting := func(from netip.AddrPort) {
		t.Helper()
		if s := <-got; s.Addr != from || string(s.ID[:]) != anID {
			t.Errorf("sighting %v %q, want %v", s.Addr, s.ID, from)
		}
	}
	other4, other6 := netip.MustParseAddrPort("198.18.7.10:1"), netip.MustParseAddrPort("[2001:db8:0:7::a]:1")
	for _, a := range []struct{ to, from, other netip.AddrPort }{{node4, asker4, other4}, {node6, asker6, other6}} {
		if query("d1:ad2:id20:"+anID+"e1:q4:ping2:roi1e1:t2:aa1:y1:qe", a.to, a.from) {
			t.Error("a read-only node was reported")
		}
		if query(ping+"\n", a.to, a.from) || query("d1:ad2:id20:"+anID+"5:token2:aae1:q4:ping1:t2:aa1:y1:qe", a.to, a.from) {
			t.Error("an asker that was not answered was reported")
		}
		if !query(findNode, a.to, a.from) {
			t.Error("an asker was not reported")
		}
		sighting(a.from)
		for range 10 {
			if query(ping, a.to, a.from) || query(get, a.to, netip.AddrPortFrom(a.from.Addr(), 7)) {
				t.Error("an address was reported again at once")
			}
		}
		if !query("d1:ad2:bsi1e2:id20:"+anID+"9:info_hash20:"+aTarget+"e1:q9:get_peers1:t2:aa1:y1:qe", a.to, a.other) {
			t.Error("another address was not reported")
		}
		sighting(a.other)
		must(t, p.AdvanceSightings(1))
		if query(ping, a.to, a.from) {
			t.Error("an address was reported again by a CPU whose clock is behind")
		}
		must(t, p.AgeSightings(200))
		if query(ping, a.to, a.from) {
			t.Error("an address was reported again before five minutes were over")
		}
		must(t, p.AgeSightings(103))
		if !query(ping, a.to, a.from) {
			t.Error("an address was not reported again after five minutes")
		}
		sighting(a.from)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Sightings = %v after its context ended", err)
	}

	// Nobody reads: what does not fit is lost, counted, and tried again.
	lost := func() (n uint64) {
		events, err := p.Events()
		must(t, err)
		for _, e := range events {
			if e.Event == "sighting_lost" {
				n = e.Count
			}
		}
		return n
	}
	from := asker4
	for range 20000 {
		from = netip.AddrPortFrom(from.Addr().Next(), from.Port())
		run(t, p, queryTo(node4, from, []byte(ping)).frame(t))
		if lost() > 0 {
			break
		}
	}
	if lost() != 1 {
		t.Fatalf("%d sightings lost, want 1", lost())
	}
	if query(ping, node4, from) || lost() != 2 {
		t.Errorf("%d sightings lost, want 2", lost())
	}
	go func() { ended <- p.Sightings(t.Context(), func(s bpf.Sighting) { got <- s }) }()
	for len(got) == 0 && !t.Failed() {
		must(t, p.Renew(time.Hour))
	}
	go func() {
		for range got {
		}
	}()
	for !query(ping, node4, from) { // as soon as there is room
		from = netip.AddrPortFrom(from.Addr(), from.Port()+1)
	}
	must(t, p.Close(true))
	if err := <-ended; !errors.Is(err, bpf.ErrClosed) {
		t.Errorf("Sightings = %v after Close", err)
	}
	close(got)
	for name, err := range map[string]error{
		"Publish": p.Publish(&bpf.Snapshot{}), "Hold": p.Hold(id{}), "Renew": p.Renew(1), "Detach": p.Detach(1),
		"SetEndpoints": p.SetEndpoints(nil), "HoldAll": p.HoldAll(keys(0)), "Release": p.Release(id{}),
	} {
		if !errors.Is(err, bpf.ErrClosed) {
			t.Errorf("%s = %v after Close", name, err)
		}
	}
}

// TestLooks checks that a CPU looks at a few askers in a round of 34 ms, and at others in the next.
func TestLooks(t *testing.T) {
	onCPU(t) // each has its own rounds
	p := private(t, bpf.Config{Looks: 3})
	ready(t, p, nil, &bpf.Snapshot{})
	const queries = 200_000 // take many rounds on any machine
	begin, from := time.Now(), asker4
	for range 20 {
		from = netip.AddrPortFrom(from.Addr().Next(), from.Port())
		run(t, p, queryTo(node4, from, []byte(ping)).frame(t))
	}
	rounds := 2 + uint64(time.Since(begin)>>25)
	if got := counts(t, p)["event/sighting"]; got < 3 || got > 3*rounds {
		t.Errorf("%d of 20 askers were looked at in %d rounds at most", got, rounds)
	}
	for range queries {
		from = netip.AddrPortFrom(from.Addr().Next(), from.Port())
		run(t, p, queryTo(node4, from, []byte(ping)).frame(t))
		if counts(t, p)["event/sighting"] > 20 {
			return
		}
	}
	t.Errorf("%d of %d askers were looked at", counts(t, p)["event/sighting"], queries)
}

// TestSightingsOfAnotherID checks that a sender is reported again soon when its ID has changed, and that whoever changes
// IDs at will cannot have many reports.
func TestSightingsOfAnotherID(t *testing.T) {
	p := private(t, bpf.Config{Looks: math.MaxUint32})
	ready(t, p, nil, &bpf.Snapshot{})
	events := func() uint64 { return counts(t, p)["event/sighting"] }
	payload := func(id int, odd bool) []byte {
		if odd { // for the parser that takes everything
			return fmt.Appendf(nil, "d1:ad3:abci1e2:id20:%020de1:q4:ping1:t2:aa1:y1:qe", id)
		}
		return fmt.Appendf(nil, "d1:ad2:id20:%020de1:q4:ping1:t2:aa1:y1:qe", id)
	}
	for _, odd := range []bool{false, true} {
		for _, a := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
			must(t, p.AgeSightings(400))
			reported := func(id int, port uint16) bool {
				t.Helper()
				before := events()
				from := netip.AddrPortFrom(a.from.Addr(), port)
				if verdict, _ := run(t, p, queryTo(a.to, from, payload(id, odd)).frame(t)); verdict != xdpTX {
					t.Fatal("not answered")
				}
				return events() != before
			}
			if !reported(1, 7) {
				t.Error("an asker was not reported")
			}
			must(t, p.AgeSightings(4))
			if reported(1, 7) || reported(2, 8) {
				t.Error("an address was reported again for the same ID, or for that of another port")
			}
			if !reported(2, 7) {
				t.Error("another ID was not reported")
			}
			must(t, p.AgeSightings(4))
			if !reported(1, 7) {
				t.Error("the ID of before was not reported again")
			}
			must(t, p.AdvanceSightings(1))
			if reported(3, 7) {
				t.Error("another ID was reported by a CPU whose clock is behind")
			}
		}
	}

	n := 1000
	if testing.Short() {
		n = 200 // emulated machines are slow
	}
	// One address, with an ID of its own in each query.
	begin, before := time.Now(), events()
	must(t, p.AgeSightings(400))
	for i := range n {
		run(t, p, queryTo(node4, asker4, payload(i, false)).frame(t))
	}
	if got, most := events()-before, 1+uint64(time.Since(begin)/(2*time.Second)); got == 0 || got > most {
		t.Errorf("one address was reported %d times in %v", got, time.Since(begin))
	}

	// Many addresses, each with a second ID after a while.
	all := func(id int) uint64 {
		before, from := events(), asker4
		for range n {
			from = netip.AddrPortFrom(from.Addr().Next(), from.Port())
			run(t, p, queryTo(node4, from, payload(id, false)).frame(t))
		}
		return events() - before
	}
	if got := all(1); got < uint64(n)*9/10 {
		t.Errorf("%d of %d addresses were reported", got, n)
	}
	must(t, p.AgeSightings(10))
	begin = time.Now()
	got := all(2)
	if most := uint64(64*runtime.NumCPU()) * (2 + uint64(time.Since(begin)/time.Second)); got < 32 || got > most {
		t.Errorf("%d other IDs were reported %d times in %v, want at least 32 and at most %d", n, got, time.Since(begin), most)
	}
}

// TestVerifierCost prints what the verifier had to do for each program, for the log.
func TestVerifierCost(t *testing.T) {
	program(t, &bpf.Snapshot{})
	logs, err := bpf.VerifierLogs()
	must(t, err)
	for _, name := range []string{"kdht", "kdht, generic", "kdht_launch"} {
		counted := false
		for line := range bytes.Lines([]byte(logs[name])) {
			if bytes.Contains(line, []byte("processed")) || bytes.Contains(line, []byte("verification time")) {
				t.Logf("verifier: %s: %s", name, bytes.TrimSpace(line))
				counted = true
			}
		}
		if !counted {
			t.Errorf("%s: the verifier does not tell what it did:\n%s", name, logs[name])
		}
	}
}
