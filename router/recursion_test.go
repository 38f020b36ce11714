package router_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// startRecursive runs n nodes that do recursion.
func (s *simNet) startRecursive(t *testing.T, n int, families ...router.Family) []*simNode {
	t.Helper()
	s.config.Recursion = recursion
	return s.startSim(t, n, families...)
}

// clientAddr is where clients are: hosts that are no nodes.
func clientAddr(f router.Family, i int) netip.AddrPort {
	return netip.AddrPortFrom(simAddr(f, 300+i).Addr(), 4000)
}

// exactly returns the IDs closest to a target of all nodes.
func exactly(fleet []*simNode, f router.Family, target router.ID) []router.ID {
	return ranked(fleet, f, target)[:8]
}

// ranked returns the IDs of all nodes, those closest to a target first.
func ranked(fleet []*simNode, f router.Family, target router.ID) []router.ID {
	var ids []router.ID
	for _, n := range fleet {
		ids = append(ids, n.ID(f))
	}
	slices.SortFunc(ids, func(a, b router.ID) int {
		da, db := router.Distance(a, target), router.Distance(b, target)
		return bytes.Compare(da[:], db[:])
	})
	return ids
}

// A client that knows one address gets what is stored anywhere, in one datagram.
func TestRecursiveQueries(t *testing.T) {
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		t.Run(f.String(), func(t *testing.T) { sim(t, func(t *testing.T, s *simNet) { testRecursiveQueries(t, s, f) }) })
	}
}

func testRecursiveQueries(t *testing.T, s *simNet, f router.Family) {
	fleet := s.startRecursive(t, 40, f)
	time.Sleep(time.Minute)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	immutable, err := fleet[7].PutImmutable(t.Context(), []byte("5:hello"))
	if err != nil {
		t.Fatal(err)
	}
	unsalted, salted := signedItem(key, "", "3:one", 1), signedItem(key, "salt", "4:four", 7)
	for _, it := range []router.Item{unsalted, salted} {
		if _, err := fleet[8].PutMutable(t.Context(), it, nil); err != nil {
			t.Fatal(err)
		}
	}
	infohash := router.ID{1, 2, 3}
	if _, err := fleet[9].Announce(t.Context(), infohash, 4242, false); err != nil {
		t.Fatal(err)
	}

	for i := range fleet { // those that hold it, and those that do not
		c := s.client(t, clientAddr(f, i), fleet[i].addr)
		r := c.ask(getItem(immutable.Target))
		if string(r.V) != "5:hello" || r.HasRecursive || r.Token == nil || r.K != nil || r.HasSeq {
			t.Errorf("node %d: %s", i, brief(r))
		}
		r = c.ask(getItem(unsalted.Target))
		if string(r.V) != "3:one" || r.Seq != 1 || !krpc.Verify(r.K, nil, r.Seq, r.V, r.Sig) || [32]byte(r.K) != unsalted.K {
			t.Errorf("node %d: %s", i, brief(r))
		}
		q := getItem(salted.Target)
		q.Salt = []byte("salt")
		if r = c.ask(q); string(r.V) != "4:four" || !krpc.Verify(r.K, q.Salt, r.Seq, r.V, r.Sig) {
			t.Errorf("node %d: %s", i, brief(r))
		}
		q.Seq, q.HasSeq = 7, true
		if r = c.ask(q); r.V != nil || r.K != nil || r.Seq != 7 || r.HasRecursive {
			t.Errorf("node %d, seq 7 known: %s", i, brief(r))
		}
		q.Seq = 6
		if r = c.ask(q); string(r.V) != "4:four" {
			t.Errorf("node %d, seq 6 known: %s", i, brief(r))
		}
		r = c.ask(getPeers(infohash))
		if got := slices.Collect(krpc.Peers(r.Values)); len(got) != 1 || got[0] != netip.AddrPortFrom(fleet[9].addr.Addr(), 4242) || r.HasRecursive {
			t.Errorf("node %d: peers %v", i, got)
		}
		for _, q := range []krpc.Message{getItem(router.ID{5}), getPeers(router.ID{5})} {
			if r = c.ask(q); r.V != nil || r.Values != nil || r.HasSeq || !r.Recursive || len(r.Nodes)+len(r.Nodes6) == 0 {
				t.Errorf("node %d: %v of nothing: %s", i, q.Method, brief(r))
			}
		}
		r = c.ask(krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{6}, HasTarget: true})
		var got []router.ID
		for id := range krpc.Nodes(r.Nodes) {
			got = append(got, id)
		}
		for id := range krpc.Nodes6(r.Nodes6) {
			got = append(got, id)
		}
		want := slices.DeleteFunc(exactly(fleet, f, router.ID{6}), func(id router.ID) bool { return id == fleet[i].ID(f) })
		if !r.Recursive || len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("node %d: found %v, want %v", i, got, want)
		}
	}
	stopAll(fleet)
}

// Somebody's own salt is needed to verify a salted item: without it there is no answer, rather than one that may be forged.
func TestRecursionNeedsTheSalt(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 30, router.IPv4)
		time.Sleep(time.Minute)
		it := signedItem(ed25519.NewKeyFromSeed(make([]byte, 32)), "salt", "1:x", 1)
		put, err := fleet[0].PutMutable(t.Context(), it, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range fleet {
			if n.store.Holds(it.Target) {
				continue
			}
			c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
			if r := c.ask(getItem(put.Target)); r.V != nil || r.HasSeq || !r.HasRecursive {
				t.Errorf("%s", brief(r))
			}
			if counted(n, "forged value") == 0 {
				t.Error("not counted")
			}
			break
		}
		stopAll(fleet)
	})
}

// Half the network is in trouble: a fifth of the datagrams get lost, a fifth of the nodes are dead, a fifth lie. Every get
// gives the true value, or says that it was not found, in time.
func TestRecursionAmongFaults(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRecursionAmongFaults(t, newSimNet(7), lie) })
		})
	}
}

func testRecursionAmongFaults(t *testing.T, s *simNet, lie func(*liar, router.ID, *krpc.Message)) {
	const nodes, liars, items = 50, 10, 40
	fleet := s.startRecursive(t, nodes, router.IPv4)
	for i := range liars {
		l := &liar{net: s, conn: s.listen(simAddr(router.IPv4, liarsFrom+i)), lie: lie}
		l.id = krpc.NodeIDFor(l.conn.local.Addr(), byte(i), anyID())
		go l.run()
		t.Cleanup(func() { _ = l.conn.Close() })
		for j := range fleet {
			if (i+j)%3 == 0 {
				l.meet(fleet[j])
			}
		}
	}
	time.Sleep(5 * time.Minute)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	var all []router.Item
	for i := range items {
		n := fleet[i]
		if i%2 == 0 {
			it := router.Item{V: fmt.Appendf(nil, "i%de", i)}
			it.Target = krpc.ImmutableTarget(it.V)
			if _, err := n.PutImmutable(t.Context(), it.V); err != nil {
				t.Fatal(err)
			}
			all = append(all, it)
			continue
		}
		it := signedItem(key, fmt.Sprint(i), fmt.Sprintf("i%de", i), int64(i))
		if _, err := n.PutMutable(t.Context(), it, nil); err != nil {
			t.Fatal(err)
		}
		all = append(all, it)
	}
	s.setLoss(0.2)
	var alive []*simNode
	for i, n := range fleet {
		if i%5 == 4 {
			n.stop()
		} else {
			alive = append(alive, n)
		}
	}
	var times []time.Duration
	found, unsure := 0, 0
	for i, it := range all {
		n := alive[(i*7+3)%len(alive)]
		c := s.client(t, clientAddr(router.IPv4, i), n.addr)
		q := getItem(it.Target)
		if it.Mutable {
			q.Salt = it.Salt
		}
		begun := time.Now()
		r := c.ask(q)
		times = append(times, time.Since(begun))
		switch {
		case r.Type != krpc.TypeResponse || r.V != nil && string(r.V) != string(it.V):
			t.Errorf("item %d: %s", i, brief(r))
		case r.V != nil:
			found++
		case !r.HasRecursive:
			t.Errorf("item %d: not found, and no word about it", i)
		case !r.Recursive:
			unsure++
		}
	}
	slices.Sort(times)
	t.Logf("%d of %d found, %d not sure; median %v, longest %v", found, items, unsure, times[items/2], times[items-1])
	if found < items*9/10 {
		t.Error("too few found")
	}
	stopAll(fleet)
}
