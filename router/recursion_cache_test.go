package router_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// hotKernel keeps the items and peers that it is given to answer with, and for which queries. They are asked for all the time, unless idle.
type hotKernel struct {
	fakeKernel
	items    map[router.ID]string
	queries  map[router.ID]bpf.HotFor
	peersFor map[router.ID][2]bpf.HotFor
	hits     uint64
	idle     bool // nobody asks
}

// hotKernelOf gives a node such a kernel half.
func hotKernelOf(t *testing.T, n *router.Node) *hotKernel {
	t.Helper()
	k := &hotKernel{fakeKernel: fakeKernel{held: make(map[[20]byte]bool)}, items: make(map[router.ID]string), queries: make(map[router.ID]bpf.HotFor), peersFor: make(map[router.ID][2]bpf.HotFor)}
	if err := n.SetKernel(k); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *hotKernel) SetHotItem(key [20]byte, it *bpf.HotItem, ttl time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items[key] = fmt.Sprintf("%s %d for %v", it.V, it.Seq, ttl.Round(time.Second))
	k.queries[key] = it.For
	return nil
}

func (k *hotKernel) SetHotPeers(key [20]byte, peers *bpf.HotPeers, ttl time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items[key] = fmt.Sprintf("%v %v for %v", peers.IPv4, peers.IPv6, ttl.Round(time.Second))
	k.queries[key], k.peersFor[key] = peers.ForIPv4, [2]bpf.HotFor{peers.ForIPv4, peers.ForIPv6}
	return nil
}

func (k *hotKernel) Hold(key [20]byte) error {
	if err := k.Cool(key); err != nil {
		return err
	}
	return k.fakeKernel.Hold(key)
}

func (k *hotKernel) HotHits(f func([20]byte, uint64)) error {
	k.mu.Lock()
	keys := slices.Collect(maps.Keys(k.items))
	if !k.idle {
		k.hits++
	}
	hits := k.hits
	k.mu.Unlock()
	for _, key := range keys {
		f(key, hits)
	}
	return nil
}

func (k *hotKernel) Cool(key [20]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.items, key)
	return nil
}

func (k *hotKernel) queriesFor(key router.ID) bpf.HotFor {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.queries[key]
}

func (k *hotKernel) item(key router.ID) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.items[key]
}

// What was fetched is served again without a query, for a while; a newer version that is stored here replaces it before
// the put is acknowledged.
func TestFetchedItemsAreKept(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, it, fleet := resumable(t, s)
		k := hotKernelOf(t, n.Node)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		again := func(what string, target router.ID, v string) {
			t.Helper()
			sent := s.queriesFor(target, func() {
				if r := c.ask(getItem(target)); string(r.V) != v {
					t.Errorf("%s: %s", what, brief(r))
				}
			})[n.addr]
			if sent > 0 {
				t.Errorf("%s: %d queries", what, sent)
			}
		}
		c.ask(getItem(it.Target))
		if got := k.item(it.Target); got != "5:hello 0 for 2h0m0s" {
			t.Errorf("the kernel half has %q", got)
		}
		time.Sleep(30 * time.Second) // no query of the lookup is under way any more
		again("immutable", it.Target, string(it.V))

		// An item that this node is far from, and does not hold.
		var key ed25519.PrivateKey
		var one router.Item
		for i := byte(0); ; i++ {
			key = ed25519.NewKeyFromSeed(append(make([]byte, 31), i))
			one = signedItem(key, "", "3:one", 1)
			if _, err := fleet[0].PutMutable(t.Context(), one, nil); err != nil {
				t.Fatal(err)
			}
			if !n.store.Holds(one.Target) {
				break
			}
		}
		c.ask(getItem(one.Target))
		if got := k.item(one.Target); got != "3:one 1 for 30s" {
			t.Errorf("the kernel half has %q", got)
		}
		time.Sleep(15 * time.Second)
		again("mutable", one.Target, "3:one")
		two := signedItem(key, "", "3:two", 2)
		token := c.ask(getItem(one.Target)).Token
		m := putItem(two, token)
		c.send(c.datagram(m))
		if r, _ := c.receive(answerTime); r == nil || r.Err.Code != 0 {
			t.Fatal(brief(r))
		}
		if got := k.item(one.Target); strings.HasPrefix(got, "3:one") {
			t.Errorf("after the put the kernel half has %q", got)
		}
		if r := c.ask(getItem(one.Target)); string(r.V) != "3:two" {
			t.Errorf("after the put: %s", brief(r))
		}
		time.Sleep(time.Minute)
		if r := c.ask(getItem(one.Target)); string(r.V) != "3:two" { // from its own store, though the closest have the older one
			t.Errorf("a minute after the put: %s", brief(r))
		}
		stopAll(fleet)
	})
}

// An item that was fetched, and that nobody asked for until the kernel half forgot it, is given to it again when it is asked for often.
func TestFetchedItemsBecomeHotAgain(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, it, fleet := resumable(t, s)
		k := hotKernelOf(t, n.Node)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		c.ask(getItem(it.Target))
		if got := k.item(it.Target); got != "5:hello 0 for 2h0m0s" {
			t.Fatalf("the kernel half has %q", got)
		}
		k.mu.Lock()
		k.idle = true
		k.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := k.item(it.Target); got != "" {
			t.Fatalf("two minutes later the kernel half still has %q", got)
		}
		for range 20 {
			c.ask(getItem(it.Target))
		}
		time.Sleep(time.Second)
		if got := k.item(it.Target); !strings.HasPrefix(got, "5:hello 0 for 1h57m") && !strings.HasPrefix(got, "5:hello 0 for 1h58m") {
			t.Errorf("asked for again, the kernel half has %q", got)
		}
		stopAll(fleet)
	})
}

// The items asked for lately stay within the bound.
func TestCacheIsBounded(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4)
		c := recursion
		c.CacheBytes = 3000 // about six
		n := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, Recursion: c}, nil, simAddr(router.IPv4, 50))
		time.Sleep(time.Minute)
		client := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		var targets []router.ID
		for i := range 20 {
			r, err := fleet[1].PutImmutable(t.Context(), fmt.Appendf(nil, "100:%0100d", i))
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, r.Target)
			for _, target := range []router.ID{r.Target, targets[0]} {
				if r := client.ask(getItem(target)); len(r.V) != 104 {
					t.Fatal(brief(r))
				}
			}
			if st := n.Stats().Recursion; st.CacheBytes > 3000 || st.Cached > 6 {
				t.Fatalf("%+v", st)
			}
		}
		if hits, begun := counted(n, "answered from the cache"), counted(n, "begun"); hits != 20 || begun != 20 {
			t.Errorf("%d from the cache, %d begun", hits, begun)
		}
		st, times, hops := n.Stats().Recursion, uint64(0), uint64(0)
		for _, n := range st.Times {
			times += n
		}
		for _, n := range st.Hops {
			hops += n
		}
		if times != 20 || hops != 20 || st.Hops[0]+st.Hops[1] == 0 || st.TimeSum < 20*10*time.Millisecond || st.TimeSum > 20*answerTime {
			t.Errorf("%d times, %d hops: %+v", times, hops, st)
		}
		n.stop()
		stopAll(fleet)
	})
}

// startAnnounced starts a fleet in which others than the first node know of a peer, and returns a node that does not, after the announce.
func (s *simNet) startAnnounced(t *testing.T) (n *simNode, infohash router.ID, peer netip.AddrPort, fleet []*simNode) {
	t.Helper()
	fleet = s.startRecursive(t, 30, router.IPv4)
	time.Sleep(time.Minute)
	infohash = router.ID{0: 1, 19: 7}
	if _, err := fleet[9].Announce(t.Context(), infohash, 4242, false); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(fleet[1:], func(m *simNode) bool { return m != fleet[9] && !m.store.Holds(infohash) }) + 1
	return fleet[i], infohash, netip.AddrPortFrom(fleet[9].addr.Addr(), 4242), fleet
}

// Peers that were found are served again without a query, for a while, until another one is announced here; those found without
// seeds are others. What the kernel half has found out about a known infohash costs no query either.
func TestFoundPeersAreKept(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, infohash, peer, fleet := s.startAnnounced(t)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		ask := func(what string, q krpc.Message, want bool) (sent int) {
			t.Helper()
			return s.queriesFor(infohash, func() {
				r := c.ask(q)
				if found := slices.Contains(slices.Collect(krpc.Peers(r.Values)), peer); found != want || r.Token == nil {
					t.Errorf("%s: %s", what, brief(r))
				}
			})[n.addr]
		}
		q, noSeeds := getPeers(infohash), getPeers(infohash)
		noSeeds.NoSeed = true
		for _, e := range []struct {
			what  string
			q     krpc.Message
			fresh bool
		}{{"first", q, true}, {"again", q, false}, {"without seeds", noSeeds, true}, {"without seeds again", noSeeds, false}} {
			if !e.fresh {
				time.Sleep(7 * time.Second) // no query of the lookup is under way any more
			}
			if sent := ask(e.what, e.q, true); (sent > 0) != e.fresh {
				t.Errorf("%s: %d queries", e.what, sent)
			}
		}
		st := stateOf(c, n, infohash)
		st.Method = krpc.MethodGetPeers
		if sent := s.queriesFor(infohash, func() {
			if err := n.Resume(st); err != nil {
				t.Fatal(err)
			}
			if r, _ := c.receive(answerTime); r == nil || !slices.Contains(slices.Collect(krpc.Peers(r.Values)), peer) {
				t.Errorf("taken over from the kernel: %s", brief(r))
			}
		})[n.addr]; sent > 0 {
			t.Errorf("taken over from the kernel: %d queries", sent)
		}
		time.Sleep(31 * time.Second)
		if sent := ask("after a while", q, true); sent == 0 {
			t.Errorf("after a while: %d queries", sent)
		}
		announce := announce(infohash, nil, 999)
		announce.Recursive = true
		if r := c.ask(announce); r.Type != krpc.TypeResponse {
			t.Fatalf("announce: %s", brief(r))
		}
		if r := c.ask(q); len(slices.Collect(krpc.Peers(r.Values))) < 2 {
			t.Errorf("after another announce: %s", brief(r))
		}
		stopAll(fleet)
	})
}

// The kernel half answers for peers that were found, for as long as they are kept, and for no longer than until another one is announced
// here: of that it tells everybody who asks after the announce was acknowledged, whether there is one or the peer was only passed on.
func TestFoundPeersAreHot(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, infohash, peer, fleet := s.startAnnounced(t)
		k := hotKernelOf(t, n.Node)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		is := func(what, want string, queries bpf.HotFor) {
			t.Helper()
			if got := k.item(infohash); got != want || want != "" && k.queriesFor(infohash) != queries {
				t.Errorf("%s: the kernel half has %q for %v, want %q for %v", what, got, k.queriesFor(infohash), want, queries)
			}
		}
		q := getPeers(infohash)
		q.NoSeed = true
		c.ask(q)
		is("without seeds", "", 0)
		q.NoSeed = false
		c.ask(q)
		found := fmt.Sprintf("[%v] [] for 30s", peer)
		is("found", found, bpf.Recursive)
		time.Sleep(40 * time.Second) // nobody told the node of it, but it is older than it may be
		is("expired", "", 0)
		c.ask(q)
		is("found again", found, bpf.Recursive)

		// A client on the node's host: others are told, among them perhaps not this node.
		same := s.client(t, netip.AddrPortFrom(n.addr.Addr(), 4000), n.addr)
		if r := same.ask(announce(infohash, nil, 4243)); r.Stored < 8 {
			t.Fatalf("announce: %s", brief(r))
		}
		is("passed on", "", 0)
		if r := c.ask(q); len(slices.Collect(krpc.Peers(r.Values))) != 2 {
			t.Errorf("after another announce: %s", brief(r))
		}
		if got := k.item(infohash); !strings.Contains(got, ":4243") || k.queriesFor(infohash) != bpf.Recursive {
			t.Errorf("both: the kernel half has %q for %v", got, k.queriesFor(infohash))
		}

		// Another client: its peer is stored here. Others, who do not ask for recursion, are told of it as well.
		own := announce(infohash, nil, 4244)
		if r := s.client(t, clientAddr(router.IPv4, 1), n.addr).ask(own); r.Stored != 1 {
			t.Fatalf("announce: %s", brief(r))
		}
		if got := k.item(infohash); got != "" && k.queriesFor(infohash) == bpf.Recursive || !k.holds(infohash) {
			t.Errorf("when a peer is stored here the kernel half still has %q for %v", got, k.queriesFor(infohash))
		}
		if r := c.ask(q); len(slices.Collect(krpc.Peers(r.Values))) != 3 {
			t.Errorf("after an announce here: %s", brief(r))
		}
		stopAll(fleet)
	})
}

// The kernel half is given the peers of an infohash while the first that is stored here is being committed: it knows that the key is held
// before the announce is acknowledged, and goes on knowing it when it answers no more.
func TestPeersAreHotBeforeTheyAreCommitted(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 4, router.IPv4)
		time.Sleep(time.Minute)
		n, infohash := fleet[1], router.ID{0: 1, 19: 7}
		k := hotKernelOf(t, n.Node)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		n.store.committing = func() {
			for range 12 {
				c.send(c.datagram(getPeers(infohash)))
				if r, _ := c.receive(answerTime); r == nil || len(r.Values) == 0 {
					t.Errorf("while it is committed: %s", brief(r))
				}
			}
			time.Sleep(time.Second)
			if k.item(infohash) == "" || !k.holds(infohash) {
				t.Errorf("while it is committed the kernel half has %q, and holds the key: %t", k.item(infohash), k.holds(infohash))
			}
		}
		if r := s.client(t, clientAddr(router.IPv4, 1), n.addr).ask(announce(infohash, nil, 4244)); r.Stored != 1 {
			t.Fatalf("announce: %s", brief(r))
		}
		k.mu.Lock()
		k.idle = true
		k.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if k.item(infohash) != "" || !k.holds(infohash) {
			t.Errorf("when nobody asks the kernel half has %q, and holds the key: %t", k.item(infohash), k.holds(infohash))
		}
		stopAll(fleet)
	})
}

// A key is the target of an item and an infohash. The kernel half answers for what it is asked for more as, and is told of a change of that though
// somebody has asked for the other just before.
func TestKeyOfTwoKinds(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 4, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[1]
		k := hotKernelOf(t, n.Node)
		put, err := fleet[0].PutImmutable(t.Context(), []byte("3:two"))
		if err != nil {
			t.Fatal(err)
		}
		key, peer, c := put.Target, s.client(t, clientAddr(router.IPv4, 1), n.addr), s.client(t, clientAddr(router.IPv4, 0), n.addr)
		is := func(what, part string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if got := k.item(key); !strings.Contains(got, part) {
				t.Errorf("%s: the kernel half has %q", what, got)
			}
		}
		peer.ask(announce(key, nil, 4001))
		for range 20 {
			c.ask(getPeers(key))
		}
		is("asked for peers", ":4001")
		for i, port := range []uint16{4002, 4003, 4004} {
			for range i + 1 {
				if r := c.ask(getItem(key)); string(r.V) != "3:two" {
					t.Fatal(brief(r))
				}
			}
			peer.ask(announce(key, nil, port))
			is("another peer, after the item was asked for", fmt.Sprintf(":%d", port))
		}
		// One get_peers a second, as the kernel half says, and twenty gets.
		for range 300 {
			if r := c.ask(getItem(key)); string(r.V) != "3:two" {
				t.Fatal(brief(r))
			}
			time.Sleep(50 * time.Millisecond)
		}
		is("asked for the item", "3:two")
		stopAll(fleet)
	})
}

// A node that is among the closest of one family knows the peers of that one alone: who wants those of the other as well is told what is
// found there, and the kernel half says nothing of it.
func TestPeersOfTheOtherFamily(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 40, router.IPv4, router.IPv6)
		time.Sleep(time.Minute)
		// One of the closest for sure, and for sure none: which of the closest a node knows is chance, as its ID is.
		var n *simNode
		var infohash router.ID
		for i := 0; n == nil; i++ {
			if i == 256 {
				t.Fatal("no such infohash")
			}
			infohash = router.ID{0: byte(i), 19: 7}
			four, six := ranked(fleet, router.IPv4, infohash)[:4], ranked(fleet, router.IPv6, infohash)[16:]
			for _, m := range fleet[10:] {
				if slices.Contains(four, m.ID(router.IPv4)) && slices.Contains(six, m.ID(router.IPv6)) {
					n = m
				}
			}
		}
		if _, err := fleet[9].Announce(t.Context(), infohash, 4242, false); err != nil {
			t.Fatal(err)
		}
		k := hotKernelOf(t, n.Node)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		of := func(r *krpc.Message) (n [2]int) {
			for p := range krpc.Peers(r.Values) {
				n[router.FamilyOf(p.Addr())]++
			}
			return n
		}
		for range 20 {
			if got := of(c.ask(getPeers(infohash))); got != [2]int{1, 0} {
				t.Fatalf("IPv4: %d", got)
			}
		}
		q := getPeers(infohash)
		q.Want = krpc.WantN4 | krpc.WantN6
		if got := of(c.ask(q)); got != [2]int{1, 1} {
			t.Errorf("both: %d", got)
		}
		k.mu.Lock()
		if got := k.peersFor[infohash]; got != [2]bpf.HotFor{bpf.All, bpf.Plain} {
			t.Errorf("the kernel half answers %v", got)
		}
		k.mu.Unlock()
		stopAll(fleet)
	})
}

// Keys that are asked for are named with how often, whether there is a kernel half or not.
func TestHottest(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.startRecursive(t, 1, router.IPv4)[0]
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		one, err := n.PutImmutable(t.Context(), []byte("3:one"))
		if err != nil && !errors.Is(err, router.ErrNoNodes) {
			t.Fatal(err)
		}
		two, err := n.PutImmutable(t.Context(), []byte("3:two"))
		if err != nil && !errors.Is(err, router.ErrNoNodes) {
			t.Fatal(err)
		}
		begun := time.Now()
		for i := range 300 {
			if r := c.ask(getItem(one.Target)); string(r.V) != "3:one" {
				t.Fatal(brief(r))
			}
			if i%10 == 0 {
				c.ask(getItem(two.Target))
			}
			time.Sleep(200 * time.Millisecond)
		}
		hottest := n.Stats().Hottest
		if len(hottest) != 2 || hottest[0].Key != one.Target || hottest[1].Key != two.Target || hottest[0].Peers || hottest[0].Kernel {
			t.Fatalf("%+v", hottest)
		}
		want := 300 / time.Since(begun).Seconds()
		if a, b := hottest[0].Rate/want, hottest[1].Rate/want; a < 0.8 || a > 1.2 || b < 0.06 || b > 0.14 {
			t.Errorf("%.2f and %.2f times the rate of the first", a, b)
		}
		time.Sleep(10 * time.Minute)
		if hottest := n.Stats().Hottest; len(hottest) != 0 {
			t.Errorf("nobody has asked for ten minutes: %+v", hottest)
		}
		n.stop()
	})
}
