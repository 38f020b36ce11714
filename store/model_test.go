package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/store"
)

// A store under random load does what a map would do, and its file stays sound.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c, path := newClock(), tempPath(t)
	o := fast(store.Options{Now: c.Now, MaxItems: 3000, MaxPeersPerInfohash: -1})
	s := open(t, path, o)
	released := make(map[[20]byte]bool)
	watch := func() { s.OnRelease(func(k [20]byte) { released[k] = true }) }
	watch()

	type held struct {
		v       []byte
		seq     int64
		own     bool
		expires time.Time
	}
	items := make(map[int]held)
	swarms := make(map[int]map[netip.AddrPort]time.Time)
	for round := range 40 {
		// Each number is an item that only one goroutine touches in a round.
		var mu sync.Mutex
		numbers := r.Perm(4000)[:r.IntN(800)+1]
		parallel(len(numbers), func(i int) {
			n := numbers[i]
			mu.Lock()
			h, ok := items[n]
			live := ok && (h.own || h.expires.After(c.Now()))
			dice, size, again := r.IntN(100), r.IntN(900), r.IntN(3) == 0
			mu.Unlock()
			seq, v := int64(round), bytes.Repeat([]byte{'a' + byte(round)}, size)
			if live && again {
				seq, v = h.seq, h.v
			}
			it := mutable(n, "", seq, string(v))
			it.Own = dice < 3
			err := s.PutItem(it, nil, addr4(n%100))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, store.ErrQuota):
				if len(items) < 2000 {
					t.Errorf("item %d with %d held: %v", n, len(items), err)
				}
				return
			case err != nil:
				t.Errorf("item %d: %v", n, err)
				return
			}
			items[n] = held{v, seq, it.Own || live && h.own, c.Now().Add(2 * time.Hour)}
			if dice > 50 {
				ih := dice % 10
				a := netip.AddrPortFrom(addr4(size), 1)
				if dice%2 == 0 {
					a = netip.AddrPortFrom(addr6(size), 1)
				}
				mu.Unlock()
				err := s.Announce(key(ih), a, false, a.Addr())
				mu.Lock()
				if err != nil {
					t.Errorf("announce: %v", err)
				}
				if swarms[ih] == nil {
					swarms[ih] = make(map[netip.AddrPort]time.Time)
				}
				swarms[ih][a] = c.Now().Add(30 * time.Minute)
			}
		})
		c.Advance(time.Duration(r.IntN(20)) * time.Minute)
		for n, h := range items {
			if h.own && r.IntN(20) == 0 {
				must(t, s.Disown(mutable(n, "", 0, "").Target))
				h.own, h.expires = false, c.Now().Add(2*time.Hour)
				items[n] = h
			}
		}
		if r.IntN(2) == 0 {
			clear(released)
			_, err := s.Expire(c.Now())
			must(t, err)
			for k := range released {
				if s.Holds(k) {
					t.Errorf("%x released and held", k)
				}
			}
		}
		if r.IntN(5) == 0 {
			s = reopen(t, s, path, o)
			watch()
		}
		must(t, s.Check())

		want := make(map[[20]byte]bool)
		maps.DeleteFunc(items, func(_ int, h held) bool { return !h.own && !h.expires.After(c.Now()) })
		for n, h := range items {
			target := mutable(n, "", 0, "").Target
			want[target] = true
			got, err := s.Item(target)
			if err != nil {
				t.Fatalf("item %d: %v", n, err)
			}
			if got.Seq != h.seq || string(got.V) != fmt.Sprintf("%d:%s", len(h.v), h.v) || got.Own != h.own {
				t.Errorf("item %d: seq %d own %v, want %d %v", n, got.Seq, got.Own, h.seq, h.own)
			}
		}
		for ih, swarm := range swarms {
			maps.DeleteFunc(swarm, func(_ netip.AddrPort, e time.Time) bool { return !e.After(c.Now()) })
			if len(swarm) > 0 {
				want[key(ih)] = true
			}
			got := append(peers(t, s, key(ih), false, 0, false), peers(t, s, key(ih), true, 0, false)...)
			if len(got) != len(swarm) {
				t.Errorf("%d peers of %d, want %d", len(got), ih, len(swarm))
			}
			for _, p := range got {
				if _, ok := swarm[p.Addr]; !ok {
					t.Errorf("peer %v of %d", p.Addr, ih)
				}
			}
		}
		if got := slices.Collect(s.Keys()); len(got) != len(want) {
			t.Errorf("%d keys, want %d", len(got), len(want))
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
