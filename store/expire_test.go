package store_test

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/store"
)

func TestExpiry(t *testing.T) {
	c, path := newClock(), tempPath(t)
	o := fast(store.Options{Now: c.Now})
	s := open(t, path, o)
	it := mutable(1, "", 1, "x")
	peer := netip.AddrPortFrom(addr4(1), 1)
	must(t, s.PutItem(it, nil, addr4(1)))
	must(t, s.Announce(key(1), peer, false, addr4(1)))

	c.Advance(30*time.Minute - time.Second)
	if len(peers(t, s, key(1), false, 0, false)) != 1 || !s.Holds(key(1)) {
		t.Error("peer expired early")
	}
	c.Advance(time.Second)
	if len(peers(t, s, key(1), false, 0, false)) != 0 || s.Holds(key(1)) {
		t.Error("peer did not expire")
	}
	must(t, s.PutItem(it, nil, addr4(1))) // restarts the timer
	c.Advance(2*time.Hour - time.Second)
	s = reopen(t, s, path, o)
	if _, err := s.Item(it.Target); err != nil || !s.Holds(it.Target) {
		t.Errorf("item expired early: %v", err)
	}
	c.Advance(time.Second)
	_, err := s.Item(it.Target)
	wantErr(t, err, store.ErrNotFound)
	if s.Holds(it.Target) || len(slices.Collect(s.Keys())) != 0 {
		t.Error("expired item is held")
	}
	if n, err := s.Expire(c.Now()); n != 2 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
	if st := s.Stats(); st.Items+st.Peers+st.Infohashes+st.Sources+int(st.Bytes) != 0 || st.Expired != 2 {
		t.Errorf("stats after expiry: %+v", st)
	}
}

func TestOldestItemIsTheOneThatWasNotPutAgain(t *testing.T) {
	c, path := newClock(), tempPath(t)
	o := fast(store.Options{Now: c.Now})
	s := open(t, path, o)
	if st := s.Stats(); st.OldestItem != 0 || !st.Checked {
		t.Errorf("a new store: %+v", st)
	}
	a, b := mutable(1, "", 1, "x"), mutable(2, "", 1, "x")
	put := func(it *store.Item) { t.Helper(); must(t, s.PutItem(it, nil, addr4(1))) }
	oldest := func(want time.Duration) {
		t.Helper()
		if got := s.Stats().OldestItem; got < want-time.Second || got > want+time.Second {
			t.Errorf("the oldest item is %v old, want %v", got, want)
		}
	}
	put(a)
	c.Advance(10 * time.Minute)
	put(b)
	c.Advance(10 * time.Minute)
	oldest(20 * time.Minute)
	put(a)
	c.Advance(10 * time.Minute)
	oldest(20 * time.Minute)
	s = reopen(t, s, path, o)
	oldest(20 * time.Minute)
	if !s.Stats().Checked {
		t.Error("a small file was not checked as a whole")
	}
}

func TestFractionsOfASecondRoundUp(t *testing.T) {
	c := newClock()
	c.Advance(900 * time.Millisecond)
	s := open(t, tempPath(t), store.Options{Now: c.Now})
	it := immutable("x")
	must(t, s.PutItem(it, nil, addr4(1)))
	c.Advance(2 * time.Hour)
	if !s.Holds(it.Target) {
		t.Error("expired before 2 h")
	}
	c.Advance(100 * time.Millisecond)
	if s.Holds(it.Target) {
		t.Error("not expired a second later")
	}
}

func TestExpireMany(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), store.Options{Now: c.Now, MaxPeersPerInfohash: -1, MaxBytesPerSource: -1})
	parallel(3000, func(n int) {
		must(t, s.PutItem(mutable(n, "", 1, "x"), nil, addr4(n)))
		must(t, s.Announce(key(n%7), netip.AddrPortFrom(addr6(n), 1), false, addr6(n)))
	})
	c.Advance(time.Hour)
	kept := mutable(1, "", 2, "y")
	must(t, s.PutItem(kept, nil, addr4(1)))
	c.Advance(time.Hour)
	if n, err := s.Expire(c.Now()); n != 2999+3000 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
	if got := slices.Collect(s.Keys()); !slices.Equal(got, [][20]byte{kept.Target}) {
		t.Errorf("kept %d keys", len(got))
	}
}

func TestKeysAgreeWithHolds(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now}))
	for n := range 20 {
		it := immutable(string(rune('a' + n)))
		it.Target = key(n) // even keys get an item, every third peers, some both
		if n%2 == 0 {
			must(t, s.PutItem(it, nil, addr4(1)))
		}
		if n%3 == 0 {
			must(t, s.Announce(key(n), netip.AddrPortFrom(addr6(1), 1), false, addr6(1)))
		}
	}
	check := func(want func(n int) bool) {
		t.Helper()
		held := make(map[[20]byte]bool)
		for k := range s.Keys() {
			if held[k] {
				t.Errorf("%x twice", k)
			}
			held[k] = true
		}
		expect := make(map[[20]byte]bool)
		for n := range 20 {
			if want(n) {
				expect[key(n)] = true
			}
			if s.Holds(key(n)) != want(n) {
				t.Errorf("Holds(%d) is %v", n, !want(n))
			}
		}
		if !maps.Equal(held, expect) {
			t.Errorf("%d keys, want %d", len(held), len(expect))
		}
	}
	check(func(n int) bool { return n%2 == 0 || n%3 == 0 })
	c.Advance(30 * time.Minute)
	check(func(n int) bool { return n%2 == 0 })
	c.Advance(90 * time.Minute)
	check(func(int) bool { return false })
	for range s.Keys() {
		t.Error("a key")
	}
}

func TestOnRelease(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now}))
	var mu sync.Mutex
	released := make(map[[20]byte]int)
	s.OnRelease(func(k [20]byte) {
		mu.Lock()
		defer mu.Unlock()
		if s.Holds(k) { // reading in the callback is allowed
			t.Errorf("%x released while held", k)
		}
		released[k]++
	})
	it := immutable("item only")
	both := immutable("both")
	must(t, s.PutItem(it, nil, addr4(1)))
	must(t, s.PutItem(both, nil, addr4(1)))
	for n := range 3 {
		must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(n), 1), false, addr4(n)))
		must(t, s.Announce(both.Target, netip.AddrPortFrom(addr6(n), 1), false, addr6(n)))
	}
	expire := func(want map[[20]byte]int) {
		t.Helper()
		_, err := s.Expire(c.Now())
		must(t, err)
		mu.Lock()
		defer mu.Unlock()
		if !maps.Equal(released, want) {
			t.Errorf("released %v, want %v", released, want)
		}
	}
	expire(map[[20]byte]int{})
	c.Advance(30 * time.Minute)
	expire(map[[20]byte]int{key(1): 1})
	c.Advance(90 * time.Minute)
	expire(map[[20]byte]int{key(1): 1, it.Target: 1, both.Target: 1})
}
