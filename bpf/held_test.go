package bpf_test

import (
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"kdht/bpf"
)

// TestHeldAfterKill starts where a process was killed while it changed what is held: a key without its bit of the
// filter, and part of the maps not pinned any more.
func TestHeldAfterKill(t *testing.T) {
	key := id([]byte(aTarget))
	for name, kill := range map[string]func(maps string){
		"the filter was not written": func(maps string) {
			filter, err := ebpf.LoadPinnedMap(filepath.Join(maps, "held_filter"), nil)
			must(t, err)
			for slot := range filter.MaxEntries() {
				must(t, filter.Put(slot, uint64(0)))
			}
			must(t, filter.Close())
		},
		"the filter is gone": func(maps string) {
			filter, err := ebpf.LoadPinnedMap(filepath.Join(maps, "held_filter"), nil)
			must(t, err)
			must(t, filter.Unpin())
			must(t, filter.Close())
		},
	} {
		dir := pinDir(t)
		program(t, &bpf.Snapshot{})
		first, err := bpf.Load(bpf.Config{PinDir: dir})
		must(t, err)
		ready(t, first, nil, &bpf.Snapshot{})
		must(t, first.Hold(key))
		must(t, first.Close(false))
		kill(filepath.Join(dir, pins(t, dir)[0]))

		second, err := bpf.Load(bpf.Config{PinDir: dir})
		must(t, err)
		must(t, second.Publish(&bpf.Snapshot{}))
		get := queryTo(node4, asker4, []byte(get)).frame(t)
		expect(t, second, "held", name, get)
		must(t, second.Hold(key))
		must(t, second.HoldAll(slices.Values([][20]byte{key})))
		expect(t, second, "held", name+", and it was held again", get)
		must(t, second.Release(key))
		expect(t, second, "answered/get", name+", and it was released", get)
		must(t, second.Close(true))
	}
}

// TestHeldOverflow holds more keys than there is room for.
func TestHeldOverflow(t *testing.T) {
	const room = 100
	p := private(t, bpf.Config{MaxHeld: room})
	ready(t, p, nil, &bpf.Snapshot{})
	all := slices.Collect(keys(room + 3))
	free, ping := ask(t, "get", "6:target", id{1}), queryTo(node4, asker4, []byte(ping)).frame(t)
	var overflows uint64
	check := func(what string, known, missing int) {
		t.Helper()
		h := p.Held()
		if h.Known != known || h.Missing != missing || h.Room != room || h.Overflows != overflows || h.Since.IsZero() != (missing == 0) {
			t.Errorf("%s: %+v, want %d known, %d missing, %d overflows", what, h, known, missing, overflows)
		}
		reason := "answered/get"
		if missing > 0 {
			reason = "held_overflow"
		}
		expect(t, p, reason, what, free)
		expect(t, p, "answered/ping", what, ping)
	}
	must(t, p.HoldAll(slices.Values(all[:room])))
	check("as many as there is room for", room, 0)
	must(t, p.Hold(all[0]))
	check("one of them again", room, 0)
	overflows++
	must(t, p.Hold(all[room]))
	must(t, p.Hold(all[room+1]))
	must(t, p.Hold(all[room+1]))
	check("two more", room, 2)
	must(t, p.HoldMissing())
	check("tried again in vain", room, 2)
	must(t, p.Release(all[3]))
	check("one released", room, 1)
	must(t, p.Release(all[3]))
	check("one released that was not held", room, 1)
	must(t, p.Release(all[4]))
	check("another released", room, 0)
	for _, k := range []id{all[room], all[room+1]} {
		expect(t, p, "held", "was missing", ask(t, "get", "6:target", k))
	}
	for _, k := range []id{all[3], all[4]} {
		expect(t, p, "answered/get", "was released", ask(t, "get", "6:target", k))
	}
	overflows++
	must(t, p.Hold(all[3]))
	check("one more", room, 1)
	must(t, p.Release(all[3]))
	check("a missing one released", room, 0)
	overflows++
	must(t, p.HoldAll(slices.Values(all)))
	check("too many at once", room, 3)
	must(t, p.HoldAll(slices.Values(all[4:])))
	check("fewer at once", room-1, 0)
}

// TestHeldMissing takes in what the kernel had no room for, once it has.
func TestHeldMissing(t *testing.T) {
	const room = 100
	dir := pinDir(t)
	p := private(t, bpf.Config{MaxHeld: room, PinDir: dir})
	ready(t, p, nil, &bpf.Snapshot{})
	all := slices.Collect(keys(room + 2))
	must(t, p.HoldAll(slices.Values(all)))
	held, err := ebpf.LoadPinnedMap(filepath.Join(dir, pins(t, dir)[0], "held"), nil)
	must(t, err)
	missing := func() (n int) {
		for _, k := range all {
			var v uint64
			if held.Lookup(k, &v) != nil {
				n++
			}
		}
		return n
	}
	var key id
	var value uint64
	for want := 1; want >= 0; want-- { // there is room without anything being released
		if it := held.Iterate(); !it.Next(&key, &value) {
			t.Fatal(it.Err())
		}
		must(t, held.Delete(key))
		must(t, p.HoldMissing())
		if got := p.Held().Missing; got != want || missing() != 2 { // those just deleted behind its back
			t.Errorf("%d keys are missing, want %d; %d are not in the map, want 2", got, want, missing())
		}
	}
	expect(t, p, "answered/get", "nothing missing", ask(t, "get", "6:target", id{1}))
	must(t, held.Close())
	must(t, p.Close(true))
}

// TestHeldOverflowLeft takes over what a process has left that had more keys than there was room for.
func TestHeldOverflowLeft(t *testing.T) {
	c := bpf.Config{MaxHeld: 100, PinDir: pinDir(t)}
	all := slices.Collect(keys(101))
	first := private(t, c)
	ready(t, first, nil, &bpf.Snapshot{})
	must(t, first.HoldAll(slices.Values(all)))
	must(t, first.Close(false))

	second := private(t, c)
	must(t, second.Publish(&bpf.Snapshot{}))
	free := ask(t, "get", "6:target", id{1})
	for _, step := range []func() error{
		func() error { return nil },
		second.HoldMissing,
		func() error { return second.Release(all[0]) },
		func() error { return second.Hold(all[1]) },
	} {
		must(t, step())
		if h := second.Held(); h.Missing == 0 || h.Since.IsZero() {
			t.Errorf("%+v, want one missing: nobody knows which", h)
		}
		expect(t, second, "held_overflow", "before the keys are told", free)
	}
	must(t, second.HoldAll(slices.Values(all[1:])))
	expect(t, second, "answered/get", "all are told", free)
	for _, k := range all[1:] {
		expect(t, second, "held", "all are told", ask(t, "get", "6:target", k))
	}
	must(t, second.Close(true))
}

// TestHeldRace has keys come and go, with too little room, while others try again and tell all keys. From when a key is
// held until it is released, no get for it may be answered.
func TestHeldRace(t *testing.T) {
	const workers, each = 4, 20
	p := private(t, bpf.Config{MaxHeld: workers * each * 2 / 5}) // half of all are held at a time
	ready(t, p, nil, &bpf.Snapshot{})
	var mu sync.Mutex // of what is stored, which is before it is held and until it is released
	stored := map[id]bool{}
	store := func(k id, is bool) {
		mu.Lock()
		defer mu.Unlock()
		if stored[k] = is; !is {
			delete(stored, k)
		}
	}
	var list iter.Seq[id] = func(yield func(id) bool) {
		mu.Lock()
		defer mu.Unlock()
		for k := range stored {
			if !yield(k) {
				return
			}
		}
	}
	rounds := pairs(t, 20_000) / 10
	var work, others, held sync.WaitGroup
	held.Add(workers)
	done := make(chan struct{})
	for i, step := range []func() error{p.HoldMissing, func() error { return p.HoldAll(list) }} {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := step(); err != nil {
					t.Errorf("step %d: %v", i, err)
				}
			}
		})
	}
	for w := range workers {
		work.Go(func() {
			r := rand.New(rand.NewPCG(11, uint64(w)))
			mine := make([]id, each)
			for i := range mine {
				mine[i] = randomID(r)
			}
			holds := map[id]bool{}
			for range rounds {
				k := mine[r.IntN(each)]
				var err error
				if holds[k] {
					store(k, false)
					err = p.Release(k)
				} else {
					store(k, true)
					err = p.Hold(k)
				}
				if err != nil {
					t.Error(err)
				}
				holds[k] = !holds[k]
				k = mine[r.IntN(each)]
				verdict, _, err := p.Run(ask(t, "get", "6:target", k))
				if err != nil {
					t.Error(err)
				}
				if holds[k] && verdict != xdpPass {
					t.Errorf("a get for a key held here: verdict %d", verdict)
				}
			}
			held.Done()
			held.Wait() // also where one after the other runs, all are there at once
			for k := range holds {
				store(k, false)
				if err := p.Release(k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	close(done)
	others.Wait()
	if h := p.Held(); h.Known != 0 || h.Missing != 0 || h.Overflows == 0 {
		t.Errorf("at the end: %+v, want nothing, after some overflows", h)
	}
	expect(t, p, "answered/get", "at the end", ask(t, "get", "6:target", id{1}))
}
