package bpf_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// hotItem makes an item with a value of n bytes, and how it is given to the kernel.
func hotItem(r *rand.Rand, n int) (*router.Item, *bpf.HotItem) {
	it := &router.Item{V: value(r, n)}
	if it.Mutable = r.IntN(2) == 0; it.Mutable {
		it.Seq = r.Int64N(1 << (1 + r.IntN(59))) // in a query, the kernel half takes up to 18 digits
		for i := range it.K {
			it.K[i] = byte(r.Uint32())
		}
		for i := range it.Sig {
			it.Sig[i] = byte(r.Uint32())
		}
	}
	return it, &bpf.HotItem{V: it.V, Mutable: it.Mutable, K: it.K, Seq: it.Seq, Sig: it.Sig}
}

// value makes a canonical bencoded value of n >= 2 bytes, of any type.
func value(r *rand.Rand, n int) []byte {
	for {
		switch r.IntN(8) {
		case 0:
			if n <= 20 && n >= 3 {
				return []byte("i" + strings.Repeat("7", n-2) + "e")
			}
		case 1:
			if n >= 4 {
				return slices.Concat([]byte("l"), value(r, n-2), []byte("e"))
			}
		case 2:
			if n >= 7 {
				return slices.Concat([]byte("d1:a"), value(r, n-5), []byte("e"))
			}
		case 3:
			if n == 2 {
				return []byte("ledele"[2*r.IntN(2):][:2])
			}
		default:
			for digits := 1; digits <= 3; digits++ { // 12 and 103, for example, are no string's length
				if s := n - digits - 1; s >= 0 && len(strconv.Itoa(s)) == digits {
					b := fmt.Appendf(nil, "%d:", s)
					for range s {
						b = append(b, byte(r.Uint32()))
					}
					return b
				}
			}
		}
	}
}

// hotPeers makes n peers of a family.
func hotPeers(r *rand.Rand, n int, v6 bool) (all []netip.AddrPort) {
	for range n {
		a := netip.AddrFrom4([4]byte{byte(1 + r.IntN(222)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if v6 {
			b := [16]byte{0x20, 1}
			for i := 2; i < 16; i++ {
				b[i] = byte(r.Uint32())
			}
			a = netip.AddrFrom16(b)
		}
		all = append(all, netip.AddrPortFrom(a, uint16(1+r.IntN(65535))))
	}
	return all
}

// hotQuery is a canonical query of a method for a key.
func hotQuery(r *rand.Rand, method krpc.Method, key id, seq int64) krpc.Message {
	m := krpc.Message{Type: krpc.TypeQuery, Method: method, ID: randomID(r), HasID: true, TID: make([]byte, 1+r.IntN(20)), Want: krpc.Want(r.IntN(4))}
	if r.IntN(2) == 0 {
		m.TID = m.TID[:min(2, len(m.TID))]
	}
	for i := range m.TID {
		m.TID[i] = byte(r.Uint32())
	}
	if method == krpc.MethodGet {
		m.Target, m.HasTarget = key, true
		if r.IntN(3) == 0 {
			m.HasSeq, m.Seq = true, max(0, seq+int64(r.IntN(3)-1))
		}
	} else {
		m.InfoHash, m.HasInfoHash = key, true
		if r.IntN(3) == 0 {
			m.HasNoSeed, m.HasScrape = true, true
		}
	}
	if r.IntN(2) == 0 {
		m.Version = []byte("LT\x02\x08")
	}
	return m
}

// compareHot is compare for a hot key: want is what user space answers. It returns the reason for which the datagram left.
func compareHot(t testing.TB, p *bpf.Program, d datagram, want []byte) string {
	t.Helper()
	frame := d.frame(t)
	verdict, out := run(t, p, frame)
	if verdict != xdpTX {
		if verdict != xdpPass || !bytes.Equal(out, frame) {
			t.Fatalf("verdict %d, frame\n%x, was\n%x", verdict, out, frame)
		}
		before := counts(t, p)
		run(t, p, frame)
		for name, n := range counts(t, p) {
			if n != before[name] && !strings.HasPrefix(name, "event/") {
				return name
			}
		}
		t.Fatal("it was not counted")
	}
	if want := d.answer(want).frame(t); !bytes.Equal(out, want) {
		t.Fatalf("reply to %q\n got %q\nwant %q", d.payload, out, want)
	}
	return "answered"
}

// hotReply checks that a get for a hot item, or a get_peers for hot peers, is answered as user space does, or goes up
// where the contacts that have room are too few for the kernel half.
func hotReply(t *testing.T, p *bpf.Program, v *router.View, d datagram, it *router.Item, peers []netip.AddrPort) {
	t.Helper()
	var m krpc.Message
	must(t, krpc.Decode(d.payload, &m))
	var want []byte
	var ok bool
	if it != nil {
		want, ok = v.AnswerItem(nil, &m, d.from, it)
	} else {
		want, ok = v.AnswerPeers(nil, &m, d.from, peers)
	}
	if !ok {
		t.Fatalf("user space does not answer %q", d.payload)
	}
	got := compareHot(t, p, d, want)
	if got == "reply_too_long" && it != nil && (len(want) > 1400-38 && d.from.Addr().Is6() || len(want) > 1472-26) {
		return // of the 1,400 or 1,472 bytes less than a contact is left
	}
	if got != "answered" {
		t.Fatalf("%s: %q", got, d.payload)
	}
}

// TestHotItems compares the halves on items of every size, mutable and not, asked for in all ways.
func TestHotItems(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 1))
	var p *bpf.Program
	var v *router.View
	var s *bpf.Snapshot
	for size := 2; size <= 1000; size += max(1, 20000/pairs(t, 100000)) {
		if p == nil || r.IntN(20) == 0 {
			s = snapshot(r, r.IntN(400), r.IntN(200))
			p, v = program(t, s), view(t, s)
		}
		for range 3 {
			it, hot := hotItem(r, size)
			key := target(r, s)
			it.Target = key
			if r.IntN(2) == 0 {
				must(t, p.Hold(key))
			}
			must(t, p.SetHotItem(key, hot, time.Hour))
			for range 8 {
				m := hotQuery(r, krpc.MethodGet, key, it.Seq)
				payload, err := m.Append(nil)
				must(t, err)
				hotReply(t, p, v, datagramFor(r, payload), it, nil)
			}
			must(t, p.Cool(key))
		}
	}
}

// TestHotPeers compares the halves on swarms of every size that makes a difference.
func TestHotPeers(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 2))
	for n := 0; n < 130; n += max(1, 20000/pairs(t, 100000)) {
		s := snapshot(r, r.IntN(300), r.IntN(200))
		if n%10 == 0 {
			s = snapshot(r, r.IntN(3), r.IntN(2)) // most room for peers
		}
		p, v := program(t, s), view(t, s)
		key := target(r, s)
		peers := &bpf.HotPeers{IPv4: hotPeers(r, n, false), IPv6: hotPeers(r, n/3, true)}
		must(t, p.SetHotPeers(key, peers, time.Hour))
		for range 20 {
			m := hotQuery(r, krpc.MethodGetPeers, key, 0)
			payload, err := m.Append(nil)
			must(t, err)
			d := datagramFor(r, payload)
			list := peers.IPv4
			if d.from.Addr().Is6() {
				list = peers.IPv6
			}
			hotReply(t, p, v, d, nil, list)
		}
		must(t, p.Cool(key))
	}
}

// TestFetchedPeers compares the halves on what is answered to clients that ask for recursion, from the peers of both families that were
// found elsewhere or are stored here. Where they want those of a family that the kernel half has not in the entry, or there are none of
// theirs, user space answers.
func TestFetchedPeers(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 8))
	seen := map[string]int{}
	for i := range max(20, pairs(t, 60)) {
		s := snapshot(r, r.IntN(300), r.IntN(200))
		p, v := program(t, s), view(t, s)
		recursionFor(t, p, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		key := target(r, s)
		var lists [2][]netip.AddrPort
		for f := range lists {
			if r.IntN(3) > 0 {
				lists[f] = hotPeers(r, r.IntN(128), f == 1)
			}
		}
		peers := &bpf.HotPeers{IPv4: lists[0], IPv6: lists[1], ForIPv4: bpf.Recursive, ForIPv6: bpf.Recursive}
		if i%2 == 0 {
			must(t, p.Hold(key))
			peers.ForIPv4, peers.ForIPv6 = bpf.HotFor(2*r.IntN(2)), bpf.HotFor(2*r.IntN(2)) // All or Plain
		}
		must(t, p.SetHotPeers(key, peers, time.Minute))
		for range 20 {
			m := hotQuery(r, krpc.MethodGetPeers, key, 0)
			m.Recursive = true
			payload, err := m.Append(nil)
			must(t, err)
			d := datagramFor(r, payload)
			must(t, krpc.Decode(d.payload, &m))
			own := krpc.WantN4
			if d.from.Addr().Is6() {
				own = krpc.WantN6
			}
			want, ok := v.AnswerPeers(nil, &m, d.from, slices.Concat(lists[0], lists[1]))
			if !ok {
				t.Fatalf("user space does not answer %q", d.payload)
			}
			got := compareHot(t, p, d, want)
			seen[got]++
			up := "answered"
			whose, other := []bpf.HotFor{peers.ForIPv4, peers.ForIPv6}[own-1], lists[2-own]
			others := []bpf.HotFor{peers.ForIPv4, peers.ForIPv6}[2-own]
			if whose == bpf.Plain || len(lists[own-1]) == 0 || m.Want&^own != 0 && (len(other) > 0 || others == bpf.Plain) {
				up = "held"
			}
			if got != up {
				t.Fatalf("%s, not %s: %q, for %v and %v, %v, with %d and %d peers", got, up, d.payload, peers.ForIPv4, peers.ForIPv6, d.from, len(lists[0]), len(lists[1]))
			}
		}
		must(t, p.Cool(key))
	}
	if seen["answered"] == 0 || seen["held"] == 0 {
		t.Errorf("only %v", seen)
	}
}

// TestHotLife makes sure that a key is hot from when it is set until it is cooled, held, released or expires, and that
// only what it holds is answered from it.
func TestHotLife(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 3))
	p := program(t, &bpf.Snapshot{})
	key, other := randomID(r), randomID(r)
	copy(other[:3], key[:3]) // the same bit of the filter
	get, peers := ask(t, "get", "6:target", key), ask(t, "get_peers", "9:info_hash", key)
	_, it := hotItem(r, 500)
	hour := func(set func(time.Duration) error) { must(t, set(time.Hour)) }
	item := func(ttl time.Duration) error { return p.SetHotItem(key, it, ttl) }
	swarm := func(ttl time.Duration) error {
		return p.SetHotPeers(key, &bpf.HotPeers{IPv4: hotPeers(r, 9, false)}, ttl)
	}
	for _, held := range []bool{false, true} {
		cold, coldPeers := "answered/get", "answered/get_peers"
		if held {
			must(t, p.Hold(key))
			cold, coldPeers = "held", "held"
		}
		hour(item)
		expect(t, p, "answered/hot_get", "an item", get)
		expect(t, p, "held", "peers of an item", peers)
		expect(t, p, "answered/get", "another key", ask(t, "get", "6:target", other))
		hour(swarm)
		expect(t, p, "answered/hot_get_peers", "peers", peers)
		expect(t, p, "held", "an item that is peers", get)
		for _, arg := range []string{"6:noseedi1e", "6:scrapei1e"} {
			q := fmt.Sprintf("d1:ad2:id20:%s9:info_hash20:%s%se1:q9:get_peers1:t2:aa1:y1:qe", anID, key[:], arg)
			expect(t, p, "held", arg, queryTo(node4, asker4, []byte(q)).frame(t))
		}
		must(t, p.Cool(key))
		expect(t, p, cold, "cooled", get)
		expect(t, p, coldPeers, "cooled", peers)
		hour(item)
		must(t, item(0))
		expect(t, p, cold, "set for no time", get)
		must(t, item(time.Microsecond))
		time.Sleep(20 * time.Millisecond) // the clock that the program reads has ticks of up to 10 ms
		expect(t, p, "held", "expired", get)
		must(t, p.Cool(key))
		expect(t, p, cold, "expired and cooled", get)
		if got := p.Hot(); got.Keys != 0 || got.Small != 0 || got.Large != 0 {
			t.Errorf("nothing is hot, but %+v", got)
		}
	}
	hour(item)
	must(t, p.Hold(key))
	expect(t, p, "held", "held again", get)
	hour(item)
	must(t, p.Release(key))
	expect(t, p, "answered/get", "released", get)
	hour(item)
	must(t, p.HoldAll(slices.Values([]id{other})))
	expect(t, p, "answered/get", "not in the new set", get)
	if h := p.Held(); h.Known != 1 || h.Missing != 0 {
		t.Errorf("one key is held, but %+v", h)
	}
}

// TestHotHits counts answers by key.
func TestHotHits(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 4))
	p := program(t, &bpf.Snapshot{})
	want := map[id]uint64{}
	for i := range 7 {
		key := randomID(r)
		_, it := hotItem(r, 100+150*i)
		must(t, p.SetHotItem(key, it, time.Hour))
		for range i {
			expect(t, p, "answered/hot_get", "hot", ask(t, "get", "6:target", key))
		}
		if want[key] = uint64(i); i%3 == 0 {
			must(t, p.SetHotItem(key, it, time.Hour)) // in another place, where counting goes on
			expect(t, p, "answered/hot_get", "hot", ask(t, "get", "6:target", key))
			want[key]++
		}
	}
	got := map[id]uint64{}
	must(t, p.HotHits(func(key id, hits uint64) { got[key] = hits }))
	if !maps.Equal(got, want) {
		t.Errorf("hits are %v, want %v", got, want)
	}
}

// TestHotHitsTogether counts answers by key where there are so many keys that their counters are read together, and where the kernel cannot.
func TestHotHitsTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 6))
	p := private(t, bpf.Config{HotBytes: 4 << 20, MaxHeld: 8000})
	ready(t, p, nil, &bpf.Snapshot{})
	_, small := hotItem(r, 100)
	_, large := hotItem(r, 900)
	four := hotPeers(r, 5, false)
	want := map[id]uint64{}
	read := func(name string) {
		t.Helper()
		got := map[id]uint64{}
		must(t, p.HotHits(func(key id, hits uint64) { got[key] = hits }))
		if !maps.Equal(got, want) {
			t.Errorf("%s: hits are wrong", name)
		}
	}
	for i := range 1200 { // more than one system call reads
		key := randomID(r)
		switch {
		case i < 20:
			must(t, p.SetHotPeers(key, &bpf.HotPeers{IPv4: four}, time.Hour))
		case i > 1190:
			must(t, p.SetHotItem(key, large, time.Hour))
		default:
			must(t, p.SetHotItem(key, small, time.Hour))
		}
		if want[key] = 0; i%97 == 1 && i >= 20 {
			for range i%5 + 1 {
				expect(t, p, "answered/hot_get", "hot", ask(t, "get", "6:target", key))
				want[key]++
			}
		}
		if i == 1190 {
			read("small ones")
		}
	}
	read("large ones, too")
	for i := 0; ; i++ { // all there is room for, so that the last counter is read
		key := id{byte(i), byte(i >> 8), 1}
		if err := p.SetHotItem(key, large, time.Hour); errors.Is(err, bpf.ErrNoHot) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		want[key] = 0
	}
	read("all there is room for")
	if p.HitsApart() {
		t.Error("the kernel has not read them together")
	}
	p.ReadHitsApart()
	read("apart")
}

// TestHotBudget fills the hot map: it keeps to its memory, refuses what has no room, and loses none.
func TestHotBudget(t *testing.T) {
	const budget = 16 << 10
	r := rand.New(rand.NewPCG(21, 5))
	p := private(t, bpf.Config{HotBytes: budget, MaxHeld: 1000})
	ready(t, p, nil, &bpf.Snapshot{})
	room := p.Hot()
	if room.Bytes > budget || room.Bytes < budget*8/10 || room.Room < 12 || room.LargeRoom < 5 {
		t.Fatalf("a budget of %d bytes gives %+v", budget, room)
	}
	_, small := hotItem(r, 100)
	_, large := hotItem(r, 1000)
	if small.Large() || !large.Large() {
		t.Fatal("sizes are told wrong")
	}
	var keys []id
	for range 2 { // what is given up can be used again, however often
		for _, it := range []*bpf.HotItem{small, large} {
			n := room.Room
			if it == large {
				n = room.LargeRoom
			}
			for range n {
				keys = append(keys, randomID(r))
				must(t, p.SetHotItem(keys[len(keys)-1], it, time.Hour))
			}
			if err := p.SetHotItem(id{1}, it, time.Hour); !errors.Is(err, bpf.ErrNoHot) {
				t.Errorf("one too many: %v", err)
			}
			if err := p.SetHotItem(keys[0], it, time.Hour); !errors.Is(err, bpf.ErrNoHot) {
				t.Errorf("another version in addition, while the old one may be read: %v", err)
			}
		}
		if got := p.Hot(); got.Keys != len(keys) || got.Small != room.Room || got.Large != room.LargeRoom || got.Bytes != room.Bytes {
			t.Errorf("%d keys are hot, but %+v", len(keys), got)
		}
		for _, key := range keys {
			expect(t, p, "answered/hot_get", "hot", ask(t, "get", "6:target", key))
			must(t, p.Cool(key))
		}
		keys = keys[:0]
	}
	none := private(t, bpf.Config{HotBytes: -1})
	ready(t, none, nil, &bpf.Snapshot{})
	if err := none.SetHotItem(id{1}, small, time.Hour); !errors.Is(err, bpf.ErrNoHot) || none.Hot() != (bpf.Hot{}) {
		t.Errorf("no budget: %v, %+v", err, none.Hot())
	}
	for _, it := range []*bpf.HotItem{{}, {V: value(r, 1006)}, {V: []byte("0:"), Mutable: true, Seq: -1}} {
		if err := p.SetHotItem(id{1}, it, time.Hour); !errors.Is(err, bpf.ErrNoHot) {
			t.Errorf("a value of %d bytes, seq %d: %v", len(it.V), it.Seq, err)
		}
	}
}

// TestHotMakesRoomForHeld fills the set of held keys with hot ones that are not held here: those held here have their room, until there is none.
func TestHotMakesRoomForHeld(t *testing.T) {
	const room = 16
	r := rand.New(rand.NewPCG(21, 9))
	p := private(t, bpf.Config{MaxHeld: room})
	ready(t, p, nil, &bpf.Snapshot{})
	_, it := hotItem(r, 100)
	it.For = bpf.Recursive
	for range room {
		must(t, p.SetHotItem(randomID(r), it, time.Hour))
	}
	if err := p.SetHotItem(randomID(r), it, time.Hour); !errors.Is(err, bpf.ErrNoHotKey) || !errors.Is(err, bpf.ErrNoHot) {
		t.Errorf("one too many: %v", err)
	}
	for i := range room {
		must(t, p.Hold(randomID(r)))
		if h, hot := p.Held(), p.Hot(); h.Known != i+1 || h.Missing != 0 || hot.Keys != room-i-1 {
			t.Fatalf("%d keys are held: %+v, %+v", i+1, h, hot)
		}
	}
	must(t, p.Hold(randomID(r)))
	if h := p.Held(); h.Missing != 1 {
		t.Errorf("one held key too many: %+v", h)
	}
}

// TestHotRestart leaves a hot key to the next process, which answers it from nothing that it did not set itself.
func TestHotRestart(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 6))
	dir := pinDir(t)
	program(t, &bpf.Snapshot{})
	first, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	ready(t, first, nil, &bpf.Snapshot{})
	held, fetched := randomID(r), randomID(r)
	must(t, first.Hold(held))
	_, it := hotItem(r, 100)
	for _, key := range []id{held, fetched} {
		must(t, first.SetHotItem(key, it, time.Hour))
	}
	must(t, first.Close(false))

	second, err := bpf.Load(bpf.Config{PinDir: dir})
	must(t, err)
	defer second.Close(true) //nolint:errcheck // not the subject
	for _, key := range []id{held, fetched} {
		expect(t, second, "held", "after a restart", ask(t, "get", "6:target", key))
	}
	must(t, second.HoldAll(slices.Values([]id{held})))
	expect(t, second, "answered/get", "not held", ask(t, "get", "6:target", fetched))
	must(t, second.SetHotItem(held, it, time.Hour))
	expect(t, second, "answered/hot_get", "hot again", ask(t, "get", "6:target", held))
}

// TestHotFor makes sure that what is hot for recursive queries only is known to no others, and the other way round.
func TestHotFor(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 7))
	p := program(t, &bpf.Snapshot{})
	recursionFor(t, p, netip.PrefixFrom(asker4.Addr(), 32))
	key := randomID(r)
	_, it := hotItem(r, 100)
	plain := ask(t, "get", "6:target", key)
	rd := fmt.Appendf(nil, "d1:ad2:id20:%s6:target20:%se1:q3:get2:rdi1e1:t2:aa1:y1:qe", anID, key[:])
	client, stranger := queryTo(node4, asker4, rd).frame(t), queryTo(node6, asker6, rd).frame(t)
	for _, c := range []struct {
		whose                   bpf.HotFor
		plain, client, stranger string
	}{
		{bpf.All, "answered/hot_get", "answered/hot_get", "answered/hot_get"},
		{bpf.Recursive, "answered/get", "answered/hot_get", "answered/get"},
		{bpf.Plain, "answered/hot_get", "held", "answered/hot_get"},
	} {
		it.For = c.whose
		must(t, p.SetHotItem(key, it, time.Hour))
		expect(t, p, c.plain, fmt.Sprint(c.whose), plain)
		expect(t, p, c.client, fmt.Sprintf("%v, recursive", c.whose), client)
		expect(t, p, c.stranger, fmt.Sprintf("%v, recursive without leave", c.whose), stranger)
	}
}
