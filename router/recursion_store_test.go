package router_test

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// recursivePut is the query that has an item put.
func recursivePut(it router.Item, cas ...int64) krpc.Message {
	m := putItem(it, nil)
	if len(cas) > 0 {
		m.CAS, m.HasCAS = cas[0], true
	}
	return m
}

// One datagram without a token stores an item on the closest nodes, and the answer says on how many, or why not.
func TestRecursivePut(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		var clients []*rdClient
		for i, n := range fleet {
			clients = append(clients, s.client(t, clientAddr(router.IPv4, i), n.addr))
		}
		stored := func(what string, r *krpc.Message, least int64) {
			t.Helper()
			if r.Type != krpc.TypeResponse || !r.HasStored || r.Stored < least || !r.Recursive || r.V != nil {
				t.Errorf("%s: %s", what, brief(r))
			}
		}
		refused := func(what string, r *krpc.Message, code int) {
			t.Helper()
			if r.Type != krpc.TypeError || r.Err.Code != code || r.Err.Text == "" {
				t.Errorf("%s: %s, want error %d", what, brief(r), code)
			}
		}
		holders := func(target router.ID) (n int64) {
			for _, m := range fleet {
				if m.store.Holds(target) {
					n++
				}
			}
			return n
		}

		immutable := router.Item{V: []byte("5:hello"), Target: krpc.ImmutableTarget([]byte("5:hello"))}
		r := clients[0].ask(recursivePut(immutable))
		stored("immutable", r, 8)
		if !fleet[0].store.Holds(immutable.Target) || holders(immutable.Target) != r.Stored {
			t.Errorf("%d nodes hold it, %s", holders(immutable.Target), brief(r))
		}
		for _, c := range clients[1:4] {
			if r := c.ask(getItem(immutable.Target)); string(r.V) != "5:hello" {
				t.Errorf("%s", brief(r))
			}
		}

		key := ed25519.NewKeyFromSeed(make([]byte, 32))
		// Who puts the first version is not to be among the closest: in its stead the ninth would have it, and hear of no other.
		salt := ""
		var one router.Item
		for i := 0; salt == "" || slices.Contains(exactly(fleet, router.IPv4, one.Target), fleet[5].ID(router.IPv4)); i++ {
			salt = fmt.Sprint("salt", i)
			one = signedItem(key, salt, "3:one", 1)
		}
		two := signedItem(key, salt, "3:two", 2)
		get := getItem(one.Target)
		get.Salt = one.Salt
		stored("mutable", clients[5].ask(recursivePut(one)), 8)
		if r := clients[5].ask(get); string(r.V) != "3:one" {
			t.Errorf("its own: %s", brief(r))
		}
		refused("another cas", clients[6].ask(recursivePut(two, 7)), krpc.ErrCodeCAS)
		stored("the right cas", clients[6].ask(recursivePut(two, 1)), 8)
		refused("older", clients[7].ask(recursivePut(one)), krpc.ErrCodeSeq)
		refused("same seq, other value", clients[7].ask(recursivePut(signedItem(key, salt, "3:2nd", 2))), krpc.ErrCodeSeq)
		stored("the same", clients[7].ask(recursivePut(two)), 8)
		forged := two
		forged.Sig[9]++
		refused("signature", clients[7].ask(recursivePut(forged)), krpc.ErrCodeSignature)
		time.Sleep(31 * time.Second) // node 5 may have kept what it fetched for so long
		for i, c := range clients {
			if r := c.ask(get); string(r.V) != "3:two" || r.Seq != 2 {
				t.Errorf("node %d: %s", i, brief(r))
			}
		}
		stopAll(fleet)
	})
}

// A put whose answer got lost is not done again, and does not fail on itself.
func TestRepeatedPut(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 30, router.IPv4)
		time.Sleep(time.Minute)
		c := s.client(t, clientAddr(router.IPv4, 0), fleet[4].addr)
		key := ed25519.NewKeyFromSeed(make([]byte, 32))
		if r := c.ask(recursivePut(signedItem(key, "", "3:one", 1))); r.Stored < 8 {
			t.Fatal(brief(r))
		}
		m := recursivePut(signedItem(key, "", "3:two", 2), 1)
		m.Recursive = true
		b := c.datagram(m)
		var first *krpc.Message
		sent := s.queriesDuring(func() {
			c.send(b)
			c.send(b) // while it is under way
			first, _ = c.receive(answerTime)
		})[fleet[4].addr]
		if first == nil || first.Stored < 8 || sent == 0 {
			t.Fatal(brief(first))
		}
		if r, _ := c.receive(answerTime); r != nil {
			t.Errorf("answered twice: %s", brief(r))
		}
		c.send(b)
		if r, took := c.receive(answerTime); r == nil || r.Stored != first.Stored || took > time.Second {
			t.Errorf("after %v: %s", took, brief(r))
		}
		if counted(fleet[4], "query repeated") != 2 || counted(fleet[4], "begun") != 2 {
			t.Errorf("%d repeated, %d begun", counted(fleet[4], "query repeated"), counted(fleet[4], "begun"))
		}
		stopAll(fleet)
	})
}

// A peer is told of to other nodes if they see it at the address of the node that tells; else only that node knows it.
func TestRecursiveAnnounce(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[3]
		peers := func(from *simNode, infohash router.ID) []netip.AddrPort {
			c := s.client(t, clientAddr(router.IPv4, 9), from.addr)
			defer c.conn.Close()
			return slices.Collect(krpc.Peers(c.ask(getPeers(infohash)).Values))
		}
		same := s.client(t, netip.AddrPortFrom(n.addr.Addr(), 4000), n.addr)
		r := same.ask(announce(router.ID{1}, nil, 4242))
		want := []netip.AddrPort{netip.AddrPortFrom(n.addr.Addr(), 4242)}
		if r.Stored < 8 || !r.Recursive {
			t.Errorf("%s", brief(r))
		}
		for _, from := range fleet[10:14] {
			if got := peers(from, router.ID{1}); !slices.Equal(got, want) {
				t.Errorf("peers %v, want %v", got, want)
			}
		}
		q := announce(router.ID{2}, nil, 0)
		q.ImpliedPort = true
		same.ask(q)
		if got := peers(fleet[12], router.ID{2}); len(got) != 1 || got[0] != same.conn.local {
			t.Errorf("peers %v, want %v", got, same.conn.local)
		}
		other := s.client(t, clientAddr(router.IPv4, 1), n.addr)
		if r = other.ask(announce(router.ID{3}, nil, 4242)); r.Stored != 1 || !r.Recursive {
			t.Errorf("%s", brief(r))
		}
		want = []netip.AddrPort{netip.AddrPortFrom(other.conn.local.Addr(), 4242)}
		if got := peers(n, router.ID{3}); !slices.Equal(got, want) {
			t.Errorf("peers %v, want %v", got, want)
		}
		stopAll(fleet)
	})
}

// A node whose network is gone says so, in time.
func TestRecursionWithoutNetwork(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 30, router.IPv4)
		time.Sleep(time.Minute)
		stopAll(fleet[1:])
		c := s.client(t, clientAddr(router.IPv4, 0), fleet[0].addr)
		for _, q := range []krpc.Message{getItem(router.ID{1}), getPeers(router.ID{2}), {Method: krpc.MethodFindNode, Target: router.ID{3}, HasTarget: true}} {
			if r := c.ask(q); r.V != nil || r.Values != nil || !r.HasRecursive || r.Recursive {
				t.Errorf("%v: %s", q.Method, brief(r))
			}
		}
		it := signedItem(ed25519.NewKeyFromSeed(make([]byte, 32)), "", "3:one", 1)
		if r := c.ask(recursivePut(it)); r.Type != krpc.TypeError && r.Stored != 1 || r.Type == krpc.TypeError && r.Err.Code != krpc.ErrCodeServer {
			t.Errorf("%s", brief(r))
		}
		stopAll(fleet[:1])

		alone := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 100))
		c = s.client(t, clientAddr(router.IPv4, 1), alone.addr)
		if r := c.ask(recursivePut(it)); r.Stored != 1 {
			t.Errorf("the only node: %s", brief(r))
		}
		if r := c.ask(getItem(it.Target)); string(r.V) != "3:one" {
			t.Errorf("the only node: %s", brief(r))
		}
		alone.stop()
	})
}

// A client behind the NAT of a node with both families is announced at the address that the NAT gives it, and not at the node's own in IPv6,
// where it has another one.
func TestAnnounceBehindNAT(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		s.config.Recursion = recursion
		s.config.Recursion.Allow = append(slices.Clone(recursion.Allow), netip.MustParsePrefix("192.168.0.0/16"))
		fleet := s.startSim(t, 30, router.IPv4, router.IPv6)
		time.Sleep(time.Minute)
		n, infohash := fleet[5], router.ID{7}
		if r := s.client(t, netip.MustParseAddrPort("192.168.1.20:4000"), n.addr).ask(announce(infohash, nil, 51413)); r.Stored < 8 {
			t.Error(brief(r))
		}
		peers := map[netip.AddrPort]bool{}
		for _, m := range fleet {
			m.store.mu.Lock()
			for p := range m.store.peers[infohash] {
				peers[p] = true
			}
			m.store.mu.Unlock()
		}
		if want := map[netip.AddrPort]bool{netip.AddrPortFrom(n.addr.Addr(), 51413): true}; !maps.Equal(peers, want) {
			t.Errorf("announced are %v, want %v", peers, want)
		}
		stopAll(fleet)
	})
}
