package store_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kdht/store"
)

// full is a value of 1000 bytes when bencoded.
func full(n int) *store.Item {
	return immutable(fmt.Sprintf("%-996d", n))
}

func TestQuotaItems(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), store.Options{Now: c.Now, MaxItems: 2})
	must(t, s.PutItem(mutable(1, "", 1, "a"), nil, addr4(1)))
	must(t, s.PutItem(mutable(2, "", 1, "a"), nil, addr4(1)))
	err := s.PutItem(mutable(3, "", 1, "a"), nil, addr4(1))
	wantErr(t, err, store.ErrQuotaItems)
	wantErr(t, err, store.ErrQuota)
	must(t, s.PutItem(mutable(1, "", 2, "b"), nil, addr4(1))) // replacing is allowed
	c.Advance(2 * time.Hour)
	must(t, s.PutItem(mutable(3, "", 1, "a"), nil, addr4(1))) // what has expired makes room
}

func TestQuotaBytes(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now, MaxBytes: 5000, MaxBytesPerSource: -1}))
	n := 0
	for ; n < 10; n++ {
		if err := s.PutItem(full(n), nil, addr4(1)); err != nil {
			wantErr(t, err, store.ErrQuotaBytes)
			wantErr(t, err, store.ErrQuota)
			break
		}
	}
	if n != 4 {
		t.Errorf("%d items of 1000 bytes in 5000", n)
	}
	for i := 0; ; i++ {
		if err := s.Announce(key(1), netip.AddrPortFrom(addr4(i), 1), false, addr4(i)); err != nil {
			wantErr(t, err, store.ErrQuotaBytes)
			break
		}
	}
	must(t, s.PutItem(full(0), nil, addr4(1))) // a refresh costs nothing
	if b := s.Stats().Bytes; b > 5000 || b < 4900 {
		t.Errorf("%d bytes", b)
	}
	c.Advance(2 * time.Hour)
	must(t, s.PutItem(full(7), nil, addr4(1)))
}

func TestQuotaInfohashes(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now, MaxInfohashes: 2}))
	peer := func(n int) netip.AddrPort { return netip.AddrPortFrom(addr4(n), 1) }
	must(t, s.Announce(key(1), peer(1), false, addr4(1)))
	must(t, s.Announce(key(2), peer(1), false, addr4(1)))
	err := s.Announce(key(3), peer(1), false, addr4(1))
	wantErr(t, err, store.ErrQuotaInfohashes)
	wantErr(t, err, store.ErrQuota)
	must(t, s.Announce(key(2), peer(2), false, addr4(2)))
	c.Advance(30 * time.Minute)
	must(t, s.Announce(key(3), peer(1), false, addr4(1)))
}

func TestQuotaPeers(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now, MaxPeersPerInfohash: 2}))
	must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(1), 1), false, addr4(1)))
	must(t, s.Announce(key(1), netip.AddrPortFrom(addr6(1), 1), false, addr6(1)))
	err := s.Announce(key(1), netip.AddrPortFrom(addr4(2), 1), false, addr4(2))
	wantErr(t, err, store.ErrQuotaPeers)
	wantErr(t, err, store.ErrQuota)
	must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(1), 1), true, addr4(1)))
	must(t, s.Announce(key(2), netip.AddrPortFrom(addr4(2), 1), false, addr4(2)))
	c.Advance(30 * time.Minute)
	must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(2), 1), false, addr4(2)))
}

func TestQuotaSource(t *testing.T) {
	same64 := func(n int) netip.Addr { // all in one /64
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", n+1))
	}
	for _, tt := range []struct {
		name string
		from func(n int) netip.Addr
		one  bool // all are one source
	}{
		{"one IPv4 address", func(int) netip.Addr { return addr4(1) }, true},
		{"IPv4, mapped and not", func(n int) netip.Addr {
			if n%2 == 0 {
				return netip.AddrFrom16(addr4(1).As16())
			}
			return addr4(1)
		}, true},
		{"one IPv6 /64", same64, true},
		{"IPv4 addresses", addr4, false},
		{"IPv6 /64s", addr6, false},
		{"this node itself", func(int) netip.Addr { return netip.Addr{} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, path := newClock(), tempPath(t)
			o := fast(store.Options{Now: c.Now, MaxBytesPerSource: 2500})
			s := open(t, path, o)
			must(t, s.PutItem(full(0), nil, tt.from(0)))
			must(t, s.PutItem(full(1), nil, tt.from(1)))
			s = reopen(t, s, path, o) // the account survives
			err := s.PutItem(full(2), nil, tt.from(2))
			if !tt.one {
				must(t, err)
				return
			}
			wantErr(t, err, store.ErrQuotaSource)
			wantErr(t, err, store.ErrQuota)
			i := 0
			for ; ; i++ {
				err := s.Announce(key(i), netip.AddrPortFrom(tt.from(i), 1), false, tt.from(i))
				if err != nil {
					wantErr(t, err, store.ErrQuotaSource)
					break
				}
			}
			if i == 0 {
				t.Error("no announce at all")
			}
			must(t, s.PutItem(full(2), nil, addr4(77))) // others may
			must(t, s.PutItem(full(0), nil, tt.from(5)))
			c.Advance(2 * time.Hour)
			must(t, s.PutItem(full(3), nil, tt.from(3)))
		})
	}
}

// Who puts an item again takes over its cost, else the republishing by others would
// use up the first one's quota for ever.
func TestRefreshMovesTheCharge(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{MaxBytesPerSource: 2500}))
	must(t, s.PutItem(full(0), nil, addr4(1)))
	must(t, s.PutItem(full(1), nil, addr4(1)))
	wantErr(t, s.PutItem(full(2), nil, addr4(1)), store.ErrQuotaSource)
	must(t, s.PutItem(full(1), nil, addr4(2)))
	must(t, s.PutItem(full(2), nil, addr4(1)))
	must(t, s.PutItem(full(3), nil, addr4(2)))
	wantErr(t, s.PutItem(full(0), nil, addr4(2)), store.ErrQuotaSource)
}

func TestNoQuota(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{
		MaxBytes: -1, MaxItems: -1, MaxInfohashes: -1, MaxPeersPerInfohash: -1, MaxBytesPerSource: -1,
	}))
	parallel(2000, func(n int) {
		must(t, s.PutItem(immutable(strings.Repeat("x", n%500)), nil, addr4(1)))
		must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(1), uint16(n+1)), false, addr4(1)))
	})
	if st := s.Stats(); st.Items != 500 || st.Peers != 2000 {
		t.Errorf("stats %+v", st)
	}
}

// TestMaxKeys compares the bound of the number of keys with what the quotas let in.
func TestMaxKeys(t *testing.T) {
	for _, c := range []struct {
		o    store.Options
		want int64
	}{
		{store.Options{}, 120_000},
		{store.Options{MaxItems: 3, MaxInfohashes: 4}, 7},
		{store.Options{MaxItems: -1, MaxBytes: 640}, 10},
		{store.Options{MaxInfohashes: -1, MaxBytes: 640}, 10},
		{store.Options{MaxItems: -1, MaxBytes: -1}, -1},
		{store.Options{MaxItems: 100, MaxInfohashes: 100, MaxBytes: 640}, 10},
	} {
		s := open(t, tempPath(t), c.o)
		if got := s.MaxKeys(); got != c.want {
			t.Errorf("%+v: %d keys, want %d", c.o, got, c.want)
		}
		if c.want < 0 || c.want > 10 {
			continue
		}
		n := 0
		for ; n < 20 && s.Announce(key(n), netip.AddrPortFrom(addr4(n), 1), false, addr4(n)) == nil; n++ {
		}
		for i := range 20 {
			if s.PutItem(mutable(i, "", 1, "a"), nil, addr4(i)) == nil {
				n++
			}
		}
		if int64(n) != c.want {
			t.Errorf("%+v: %d keys were let in, want %d", c.o, n, c.want)
		}
	}
}
