package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kdht/store"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func TestState(t *testing.T) {
	path := tempPath(t)
	s := open(t, path, store.Options{})
	for _, ipv6 := range []bool{false, true} {
		_, err := s.Identity(ipv6)
		wantErr(t, err, store.ErrNotFound)
	}
	_, err := s.Secrets()
	wantErr(t, err, store.ErrNotFound)
	if n, err := s.Nodes(); len(n) != 0 || err != nil {
		t.Fatalf("nodes of a new store: %v, %v", n, err)
	}

	id4 := store.Identity{ID: key(4), External: addr4(1)}
	id6 := store.Identity{ID: key(6)}
	secrets := store.Secrets{Current: [16]byte{1}, Previous: [16]byte{2}, Rotated: time.Unix(1_800_000_000, 0)}
	nodes := []store.Node{
		{ID: key(1), Addr: netip.AddrPortFrom(addr4(1), 6881), LastSeen: time.Unix(1_800_000_000, 0)},
		{ID: key(2), Addr: netip.AddrPortFrom(addr6(1), 1), LastSeen: time.Unix(1, 0)},
	}
	must(t, s.SetIdentity(false, store.Identity{ID: key(9)}))
	must(t, s.SetIdentity(false, id4))
	must(t, s.SetIdentity(true, id6))
	must(t, s.SetSecrets(secrets))
	must(t, s.SaveNodes(append(nodes, nodes...)))
	must(t, s.SaveNodes(nodes))
	for range 2 {
		got4, err := s.Identity(false)
		must(t, err)
		got6, err := s.Identity(true)
		must(t, err)
		if got4 != id4 || got6 != id6 {
			t.Errorf("identities: %v %v", got4, got6)
		}
		gotSecrets, err := s.Secrets()
		must(t, err)
		if d := cmp.Diff(secrets, gotSecrets); d != "" {
			t.Error(d)
		}
		gotNodes, err := s.Nodes()
		must(t, err)
		if d := cmp.Diff(nodes, gotNodes, comparable); d != "" {
			t.Error(d)
		}
		s = reopen(t, s, path, store.Options{})
	}
	must(t, s.SaveNodes(nil))
	if n, err := s.Nodes(); len(n) != 0 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	wantErr(t, s.SaveNodes([]store.Node{{}}), store.ErrInvalid)
	wantErr(t, s.SaveNodes(make([]store.Node, 100_001)), store.ErrInvalid)
}

func TestClosed(t *testing.T) {
	s := open(t, tempPath(t), store.Options{})
	it := immutable("x")
	must(t, s.PutItem(it, nil, addr4(1)))
	must(t, s.SetIdentity(false, store.Identity{}))
	must(t, s.Close())
	_, err1 := s.Item(it.Target)
	_, err2 := s.Item(key(1))
	_, err3 := s.Peers(key(1), false, 0, false, nil)
	_, err4 := s.Identity(false)
	_, err5 := s.Secrets()
	_, err6 := s.Nodes()
	_, err7 := s.Expire(time.Now())
	for i, err := range []error{
		err1, err2, err3, err4, err5, err6, err7,
		s.PutItem(it, nil, addr4(1)),
		s.Announce(key(1), netip.AddrPortFrom(addr4(1), 1), false, addr4(1)),
		s.SetIdentity(false, store.Identity{}),
		s.SetSecrets(store.Secrets{}),
		s.SaveNodes(nil),
		s.Disown(key(1)),
		s.Check(),
		s.Close(),
	} {
		if err == nil {
			t.Errorf("call %d succeeded on a closed store", i)
			continue
		}
		wantErr(t, err, store.ErrClosed)
	}
}
