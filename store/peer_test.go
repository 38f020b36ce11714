package store_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/store"
)

func peers(t testing.TB, s *store.Store, ih [20]byte, ipv6 bool, max int, noSeeds bool) []store.Peer {
	t.Helper()
	p, err := s.Peers(ih, ipv6, max, noSeeds, nil)
	must(t, err)
	slices.SortFunc(p, func(a, b store.Peer) int { return a.Addr.Compare(b.Addr) })
	return p
}

func TestPeers(t *testing.T) {
	c, path := newClock(), tempPath(t)
	o := fast(store.Options{Now: c.Now})
	s := open(t, path, o)
	a, b := netip.AddrPortFrom(addr4(1), 6881), netip.AddrPortFrom(addr4(1), 6882)
	d := netip.AddrPortFrom(addr6(1), 6881)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(addr4(2).As16()), 1)
	must(t, s.Announce(key(1), a, false, a.Addr()))
	must(t, s.Announce(key(1), b, true, b.Addr()))
	must(t, s.Announce(key(1), d, false, d.Addr()))
	must(t, s.Announce(key(1), mapped, false, mapped.Addr()))
	must(t, s.Announce(key(2), a, false, a.Addr()))
	must(t, s.Announce(key(2), a, true, a.Addr())) // now a seed
	for range 2 {
		for _, tt := range []struct {
			name    string
			ih      [20]byte
			ipv6    bool
			noSeeds bool
			want    []store.Peer
		}{
			{"v4", key(1), false, false, []store.Peer{{a, false}, {b, true}, {netip.AddrPortFrom(addr4(2), 1), false}}},
			{"v4 without seeds", key(1), false, true, []store.Peer{{a, false}, {netip.AddrPortFrom(addr4(2), 1), false}}},
			{"v6", key(1), true, false, []store.Peer{{d, false}}},
			{"became a seed", key(2), false, false, []store.Peer{{a, true}}},
			{"other family", key(2), true, false, nil},
			{"unknown", key(3), false, false, nil},
		} {
			if got := peers(t, s, tt.ih, tt.ipv6, 0, tt.noSeeds); !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
		if st := s.Stats(); st.Peers != 5 || st.Infohashes != 2 {
			t.Errorf("stats %+v", st)
		}
		s = reopen(t, s, path, o)
	}
}

func TestPeersAreARandomChoice(t *testing.T) {
	s := open(t, tempPath(t), fast(store.Options{}))
	for n := range 20 {
		must(t, s.Announce(key(1), netip.AddrPortFrom(addr4(n), 1), false, addr4(n)))
	}
	seen := make(map[netip.AddrPort]int)
	for range 400 {
		got, err := s.Peers(key(1), false, 5, false, make([]store.Peer, 1, 10))
		must(t, err)
		if len(got) != 6 {
			t.Fatalf("%d peers", len(got)-1)
		}
		for _, p := range got[1:] {
			seen[p.Addr]++
		}
	}
	// 100 expected of each, standard deviation 9.
	for a, n := range seen {
		if n < 40 || n > 160 {
			t.Errorf("%v chosen %d times of 400", a, n)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 peers ever chosen", len(seen))
	}
}

func TestInvalidPeers(t *testing.T) {
	s := open(t, tempPath(t), store.Options{})
	for _, a := range []netip.AddrPort{
		{},
		netip.AddrPortFrom(addr4(1), 0),
		netip.AddrPortFrom(netip.IPv4Unspecified(), 1),
		netip.AddrPortFrom(netip.IPv6Unspecified(), 1),
	} {
		wantErr(t, s.Announce(key(1), a, false, addr4(1)), store.ErrInvalid)
	}
}

func TestSample(t *testing.T) {
	c := newClock()
	s := open(t, tempPath(t), fast(store.Options{Now: c.Now}))
	if got, total := s.Sample(20); len(got) != 0 || total != 0 {
		t.Errorf("empty store: %d of %d", len(got), total)
	}
	must(t, s.Announce(key(99), netip.AddrPortFrom(addr4(1), 1), false, addr4(1)))
	c.Advance(30 * time.Minute) // not swept, not counted
	want := make(map[[20]byte]bool)
	for n := range 30 {
		must(t, s.Announce(key(n), netip.AddrPortFrom(addr4(1), 1), false, addr4(1)))
		want[key(n)] = true
	}
	must(t, s.PutItem(immutable("not an infohash"), nil, addr4(1)))
	for _, max := range []int{0, 5, 30, 50} {
		got, total := s.Sample(max)
		if total != 30 || len(got) != min(max, 30) {
			t.Errorf("Sample(%d): %d of %d", max, len(got), total)
		}
		once := make(map[[20]byte]bool)
		for _, k := range got {
			if !want[k] || once[k] {
				t.Errorf("Sample(%d): unexpected %x", max, k)
			}
			once[k] = true
		}
	}
}
