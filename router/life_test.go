package router_test

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// sim runs a test in virtual time.
func sim(t *testing.T, f func(t *testing.T, s *simNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newSimNet(3)) })
}

func stopAll(fleet []*simNode) {
	for _, n := range fleet {
		n.stop()
	}
}

// A restarted node is of use within a second, though its bootstrap node is gone, and goes by the same ID.
func TestRestartFromSavedTable(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		put, err := fleet[3].PutImmutable(t.Context(), []byte("3:abc"))
		if err != nil {
			t.Fatal(err)
		}
		n := fleet[39]
		id := n.ID(router.IPv4)
		n.stop()
		fleet[0].stop()
		fleet[17].stop()
		time.Sleep(time.Hour)

		n = s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, n.store, n.addr)
		begin := time.Now()
		time.Sleep(time.Second)
		got, err := n.GetImmutable(t.Context(), put.Target)
		if err != nil || n.ID(router.IPv4) != id {
			t.Errorf("ID %v, was %v: %+v, %v", n.ID(router.IPv4), id, got, err)
		}
		<-n.Ready()
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("ready after %v", d)
		}
		n.stop()
		stopAll(fleet)
	})
}

// A node that finds nobody keeps trying, and is ready when the network is there.
func TestBootstrapIsRetried(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		first := simAddr(router.IPv4, 0)
		n := s.start(t, router.Config{Bootstrap: []string{first.String()}}, newMemStore(), simAddr(router.IPv4, 1))
		time.Sleep(10 * time.Minute)
		select {
		case <-n.Ready():
			t.Error("ready without a network")
		default:
		}
		if _, err := n.FindNode(t.Context(), router.ID{1}); !errors.Is(err, router.ErrNoNodes) {
			t.Errorf("find_node without a network: %v", err)
		}
		m := s.start(t, router.Config{}, newMemStore(), first)
		<-m.Ready() // the first of a network is ready by itself
		time.Sleep(2 * time.Minute)
		select {
		case <-n.Ready():
		default:
			t.Error("not ready two minutes after the bootstrap node came")
		}
		stopAll([]*simNode{m, n})
	})
}

// The network comes to know of a node's address change, and the node takes an ID that fits; what unasked nodes say
// has no effect.
func TestExternalAddressVote(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 30, router.IPv4)
		// Behind a NAT: the socket has a private address, the others see a public one.
		st := newMemStore()
		conn := s.listen(netip.MustParseAddrPort("192.168.1.2:6881"))
		first, second := netip.MustParseAddrPort("198.19.7.7:6881"), netip.MustParseAddrPort("198.19.99.9:6881")
		s.move(conn, first)
		n := s.startConn(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}}, st, conn)

		// Nobody has asked these, so their word counts for nothing.
		for i := range 20 {
			from := s.listen(simAddr(router.IPv4, 150+i))
			for _, m := range []krpc.Message{
				{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: router.ID{1}, HasID: true, ReadOnly: true, IP: netip.MustParseAddrPort("8.8.8.8:1")},
				{Type: krpc.TypeResponse, TID: []byte("aaaa"), ID: router.ID{1}, HasID: true, IP: netip.MustParseAddrPort("8.8.8.8:1")},
			} {
				b, err := m.Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				s.send(from, first, b)
			}
		}
		time.Sleep(time.Minute)
		state := n.Stats().Families[0]
		id := n.ID(router.IPv4)
		if state.External != first.Addr() || !krpc.ValidNodeID(id, first.Addr()) || !state.Secure || st.identity[false].ID != id {
			t.Errorf("at %v: %+v, saved %+v", first, state, st.identity[false])
		}
		if v := n.View().Snapshot().ID4; v != id {
			t.Errorf("answers as %x, is %v", v, id)
		}

		s.move(conn, second)
		time.Sleep(time.Hour)
		state = n.Stats().Families[0]
		again := n.ID(router.IPv4)
		if state.External != second.Addr() || !krpc.ValidNodeID(again, second.Addr()) || again == id {
			t.Errorf("at %v: %+v", second, state)
		}
		found, err := fleet[9].FindNode(t.Context(), again)
		if err != nil || found.Nodes[0] != (router.Contact{ID: again, Addr: second}) {
			t.Errorf("others find %+v, %v", found, err)
		}
		n.stop()
		stopAll(fleet)
	})
}

// What the configuration says about our address no vote can change.
func TestExternalAddressFixed(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4)
		conn := s.listen(netip.MustParseAddrPort("192.168.1.2:6881"))
		s.move(conn, netip.MustParseAddrPort("198.19.7.7:6881"))
		fixed := netip.MustParseAddr("198.19.1.1")
		n := s.startConn(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, External: []netip.Addr{fixed}}, newMemStore(), conn)
		id := n.ID(router.IPv4)
		time.Sleep(time.Minute)
		if n.ID(router.IPv4) != id || !krpc.ValidNodeID(id, fixed) || n.Stats().Families[0].External != fixed {
			t.Errorf("%+v", n.Stats().Families[0])
		}
		n.stop()
		stopAll(fleet)
	})
}

// Own items and announces outlive their expiry and the nodes that held them; others do not.
func TestRepublish(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 60, router.IPv4)
		time.Sleep(time.Minute)
		ctx, owner := t.Context(), fleet[1]
		kept, err1 := owner.PutImmutable(ctx, []byte("4:kept"), router.Keep())
		lost, err2 := owner.PutImmutable(ctx, []byte("4:lost"))
		item := signed(testKey(), "", "1:1", 1)
		mutable, err3 := owner.PutMutable(ctx, item, nil, router.Keep())
		infohash := router.ID{0x33}
		_, err4 := owner.Announce(ctx, infohash, 5000, false, router.Keep())
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		// Somebody with the same key publishes a newer version: that is the one to keep alive.
		time.Sleep(20 * time.Minute)
		if _, err := fleet[2].PutMutable(ctx, signed(testKey(), "", "1:2", 2), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		for _, n := range fleet[30:] { // half of the holders go
			n.stop()
		}
		time.Sleep(5 * time.Hour)
		asker := fleet[20]
		if got, err := asker.GetImmutable(ctx, kept.Target); err != nil {
			t.Errorf("kept: %+v, %v", got, err)
		}
		if got, err := asker.GetImmutable(ctx, lost.Target); !errors.Is(err, router.ErrNotFound) {
			t.Errorf("not kept: %+v, %v", got, err)
		}
		if got, err := asker.GetMutable(ctx, item.K, nil); err != nil || got.Item.Seq != 2 || got.Copies < 6 {
			t.Errorf("mutable %v: %+v, %v", mutable.Target, got, err)
		}
		want := netip.AddrPortFrom(owner.addr.Addr(), 5000)
		if got, err := asker.Peers(ctx, infohash); err != nil || len(got.Peers) != 1 || got.Peers[0] != want {
			t.Errorf("peers: %+v, %v", got, err)
		}
		owner.Unannounce(infohash)
		time.Sleep(time.Hour)
		if got, err := asker.Peers(ctx, infohash); err != nil || len(got.Peers) != 0 {
			t.Errorf("peers after the last announce: %+v, %v", got, err)
		}
		stopAll(fleet)
	})
}

// No node is sent more of our queries than it would bear, whatever the user asks for.
func TestQueriesPerDestination(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 6, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[1]
		type moment struct {
			to netip.Addr
			at time.Time
		}
		var sent []moment
		s.tapQueries(func(from, to netip.AddrPort, _ *krpc.Message) {
			if from == n.addr {
				sent = append(sent, moment{to.Addr(), time.Now()})
			}
		})
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() { _, _ = n.FindNode(t.Context(), router.ID{byte(i), byte(i >> 8)}) })
		}
		wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, a := range sent {
			second, ten := 0, 0
			for _, b := range sent[i:] {
				if b.to != a.to {
					continue
				}
				if d := b.at.Sub(a.at); d < time.Second {
					second++
				} else if d >= 10*time.Second {
					break
				}
				ten++
			}
			if second > 12 || ten > 40 {
				t.Fatalf("%d queries to %v within a second, %d within ten", second, a.to, ten)
			}
		}
		if len(sent) < 50 {
			t.Errorf("only %d queries", len(sent))
		}
		if counter(n.Stats(), "outgoing", "over the limit") == 0 {
			t.Error("nothing was over the limit")
		}
		s.tap = nil
		go stopAll(fleet)
	})
}

// What the kernel half has sent to a node counts.
func TestQueriesOfTheKernelCount(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 6, router.IPv4)
		time.Sleep(time.Minute)
		n, to := fleet[1], fleet[2]
		k := &fakeKernel{held: make(map[[20]byte]bool)}
		if err := n.SetKernel(k); err != nil {
			t.Fatal(err)
		}
		for { // as much as there is
			if _, ok := k.sent.Reserve(to.addr.Addr(), n.KernelTime(time.Now()), 0); !ok {
				break
			}
		}
		begin := time.Now()
		if _, err := n.Ping(t.Context(), to.addr); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begin); waited < 330*time.Millisecond || waited > time.Second {
			t.Errorf("a ping after the kernel half's burst took %v, want some 350 ms", waited)
		}
		if err := n.SetKernel(nil); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		if _, err := n.Ping(t.Context(), to.addr); err != nil || time.Since(begin) > 330*time.Millisecond {
			t.Errorf("without the kernel half: %v after %v", err, time.Since(begin))
		}
		stopAll(fleet)
	})
}

// Tokens given before a restart are good after it, those of long ago are not.
func TestTokensOutliveARestart(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		st, addr := newMemStore(), simAddr(router.IPv4, 0)
		n := s.start(t, router.Config{}, st, addr)
		from := netip.MustParseAddr("198.18.9.9")
		token := n.View().Token(from)
		n.stop()
		time.Sleep(time.Minute)
		n = s.start(t, router.Config{}, st, addr)
		if got := n.View().Token(from); got != token {
			t.Error("the secret did not survive a restart within its time")
		}
		conn := s.listen(netip.AddrPortFrom(from, 1))
		put := func() krpc.Type {
			q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPut, TID: []byte("aa"), ID: router.ID{1}, HasID: true, ReadOnly: true, Token: token[:], V: []byte("1:x")}
			b, err := q.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.send(conn, addr, b)
			ps := []router.Packet{{Data: make([]byte, 2048)}}
			if _, err := conn.ReadBatch(ps); err != nil {
				t.Fatal(err)
			}
			var m krpc.Message
			if err := krpc.Decode(ps[0].Data, &m); err != nil {
				t.Fatal(err)
			}
			return m.Type
		}
		if put() != krpc.TypeResponse {
			t.Error("token refused after a restart")
		}
		time.Sleep(5 * time.Minute)
		if n.View().Token(from) == token {
			t.Error("the secret was not replaced")
		}
		if put() != krpc.TypeResponse {
			t.Error("token of the previous secret refused")
		}
		time.Sleep(5 * time.Minute)
		if put() != krpc.TypeError {
			t.Error("token accepted after ten minutes")
		}
		n.stop()
	})
}

// fakeKernel records what it is told.
type fakeKernel struct {
	mu        sync.Mutex
	held      map[[20]byte]bool
	published []time.Time
	last      *bpf.Snapshot
	fail      bool
	proven    []netip.Addr
	expected  []netip.Addr
	sent      *limit.Destinations
}

var errKernel = errors.New("the kernel says no")

func (k *fakeKernel) Publish(s *bpf.Snapshot) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.published = append(k.published, time.Now())
	if k.fail {
		return errKernel
	}
	k.last = s
	return nil
}

func (k *fakeKernel) Hold(key [20]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[key] = true
	return nil
}

func (k *fakeKernel) Release(key [20]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, key)
	return nil
}

func (k *fakeKernel) SetHotItem([20]byte, *bpf.HotItem, time.Duration) error   { return bpf.ErrNoHot }
func (k *fakeKernel) SetHotPeers([20]byte, *bpf.HotPeers, time.Duration) error { return bpf.ErrNoHot }
func (k *fakeKernel) Cool([20]byte) error                                      { return nil }
func (k *fakeKernel) HotHits(func([20]byte, uint64)) error                     { return nil }
func (k *fakeKernel) Prove(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proven = append(k.proven, a)
	return nil
}

func (k *fakeKernel) Expect(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expected = append(k.expected, a)
	return nil
}

// Pace implements router.Kernel: what it sends is counted in a table of its own.
func (k *fakeKernel) Pace(p limit.Pace) (*limit.Destinations, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sent = limit.NewDestinations(p, 7, new(limit.Table))
	return k.sent, nil
}

func (k *fakeKernel) holds(key [20]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[key]
}

// latest returns the last snapshot that it took.
func (k *fakeKernel) latest() *bpf.Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

func (k *fakeKernel) setFail(fail bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = fail
}

// The kernel half gets each table, soon but not too often, each secret at once, and knows what is held before the
// writer hears that it is.
func TestKernelIsKeptUpToDate(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		k := &fakeKernel{held: make(map[[20]byte]bool)}
		st := newMemStore()
		old := signed(testKey(), "old", "1:x", 1)
		n := s.start(t, router.Config{}, st, simAddr(router.IPv4, 0))
		time.Sleep(time.Second)
		if _, err := n.PutMutable(t.Context(), old, nil); err != nil {
			t.Fatal(err)
		}
		if err := n.SetKernel(k); err != nil || k.latest() == nil || !k.holds(krpc.MutableTarget(old.K[:], old.Salt)) {
			t.Fatalf("after SetKernel: %v", err)
		}
		fleet := []*simNode{n}
		for i := 1; i < 30; i++ {
			fleet = append(fleet, s.start(t, router.Config{Bootstrap: []string{n.addr.String()}}, newMemStore(), simAddr(router.IPv4, i)))
		}
		time.Sleep(time.Minute)
		if got, want := len(k.latest().Nodes4), n.Stats().Families[0].Contacts; got != want || want < 8 {
			t.Errorf("published %d contacts of %d", got, want)
		}
		k.mu.Lock()
		times := k.published
		k.mu.Unlock()
		for i := 1; i < len(times); i++ {
			if d := times[i].Sub(times[i-1]); d < 50*time.Millisecond && i > 1 {
				t.Errorf("published again after %v", d)
			}
		}
		// A put: held before it is acknowledged.
		target := krpc.ImmutableTarget([]byte("2:zz"))
		var early atomic.Bool
		s.mu.Lock()
		s.tap = func(from, _ netip.AddrPort, b []byte) {
			var m krpc.Message
			if from == n.addr && krpc.Decode(b, &m) == nil && m.Type == krpc.TypeResponse && st.Holds(target) && !k.holds(target) {
				early.Store(true)
			}
		}
		s.mu.Unlock()
		for _, m := range fleet[1:] {
			if _, err := m.PutImmutable(t.Context(), []byte("2:zz")); err != nil {
				t.Fatal(err)
			}
		}
		if st.Holds(target) && (!k.holds(target) || early.Load()) {
			t.Error("a put was acknowledged before the kernel knew")
		}
		secret := k.latest().Secret
		time.Sleep(5*time.Minute + 10*time.Second)
		if k.latest().Secret == secret || k.latest().Secret != n.View().Snapshot().Secret {
			t.Error("the kernel has not got the new secret")
		}
		time.Sleep(3 * time.Hour)
		if k.holds(target) || k.holds(krpc.MutableTarget(old.K[:], old.Salt)) {
			t.Error("what has expired is still held")
		}
		// A kernel that fails gets the tables later.
		k.setFail(true)
		fleet[7].stop()
		time.Sleep(40 * time.Minute)
		k.setFail(false)
		time.Sleep(time.Minute)
		if k.latest().Secret != n.View().Snapshot().Secret || len(k.latest().Nodes4) != len(n.View().Snapshot().Nodes4) {
			t.Error("the kernel is not up to date after it failed")
		}
		stopAll(fleet)
	})
}

// A node with both families joins the IPv6 network with the help of IPv4 nodes.
func TestBothFamilies(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		var fleet []*simNode
		for i := range 30 {
			var c router.Config
			if i > 0 {
				c.Bootstrap = []string{simAddr(router.IPv4, 0).String()}
			}
			if i == 1 { // the others know no IPv6 address
				c.Bootstrap = append(c.Bootstrap, simAddr(router.IPv6, 0).String())
			}
			fleet = append(fleet, s.start(t, c, newMemStore(), simAddr(router.IPv4, i), simAddr(router.IPv6, i)))
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(3 * time.Minute)
		only6 := s.start(t, router.Config{Bootstrap: []string{simAddr(router.IPv6, 5).String()}}, newMemStore(), simAddr(router.IPv6, 99))
		time.Sleep(time.Minute)
		for _, n := range fleet {
			for _, f := range n.Stats().Families {
				if f.Good < 8 {
					t.Errorf("%v has %d good contacts over %v", n.addr, f.Good, f.Family)
				}
			}
			if n.ID(router.IPv4) == n.ID(router.IPv6) {
				t.Error("one ID for both families")
			}
		}
		r, err := fleet[3].PutImmutable(t.Context(), []byte("2:ab"))
		if err != nil || len(r.Stored) < 14 {
			t.Errorf("put: %+v, %v", r, err)
		}
		if got, err := only6.GetImmutable(t.Context(), r.Target); err != nil {
			t.Errorf("get over IPv6: %+v, %v", got, err)
		}
		if got, err := fleet[22].GetImmutable(t.Context(), r.Target, router.WithFamilies(router.IPv4)); err != nil {
			t.Errorf("get over IPv4: %+v, %v", got, err)
		}
		infohash := router.ID{0x44}
		if _, err := fleet[4].Announce(t.Context(), infohash, 0, false); err != nil {
			t.Error(err)
		}
		peers, err := fleet[17].Peers(t.Context(), infohash)
		if err != nil || len(peers.Peers) != 2 {
			t.Errorf("peers of both families: %+v, %v", peers, err)
		}
		only6.stop()
		stopAll(fleet)
	})
}

// Clients that say they are read-only are answered, but enter no table (BEP 43).
func TestReadOnlyNodesStayOut(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 5, router.IPv4)
		c := s.start(t, router.Config{ReadOnly: true, Bootstrap: []string{fleet[0].addr.String()}}, nil, simAddr(router.IPv4, 50))
		<-c.Ready()
		for i := range 20 {
			if _, err := c.FindNode(t.Context(), router.ID{byte(i)}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute)
		for _, n := range fleet {
			if got := n.Stats().Families[0].Contacts; got != 4 {
				t.Errorf("%v has %d contacts", n.addr, got)
			}
		}
		c.stop()
		stopAll(fleet)
	})
}

// holds reports whether a node is one of those at which something was stored.
func holds(holders []router.Contact, n *simNode) bool {
	return slices.ContainsFunc(holders, func(c router.Contact) bool { return c.Addr == n.addr })
}

// A get of a mutable item takes the newest version, wherever it is.
func TestNewestVersionWins(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 50, router.IPv4)
		time.Sleep(time.Minute)
		old := signed(testKey(), "s", "3:old", 1)
		r, err := fleet[1].PutMutable(t.Context(), old, nil)
		if err != nil {
			t.Fatal(err)
		}
		young := signed(testKey(), "s", "5:young", 2)
		holders := slices.SortedFunc(slices.Values(r.Stored), func(a, b router.Contact) int {
			if router.Closer(r.Target, a.ID, b.ID) {
				return -1
			}
			return 1
		})
		asker := fleet[1+slices.IndexFunc(fleet[1:], func(n *simNode) bool { return n.addr != fleet[1].addr && !holds(holders, n) })]
		for _, n := range fleet { // only one of the holders hears of it, which everybody asks who looks for it
			if n.addr == holders[3].Addr {
				it, err := n.store.Item(r.Target)
				if err != nil {
					t.Fatal(err)
				}
				it.V, it.Seq, it.Sig = young.V, young.Seq, young.Sig
				if err := n.store.PutItem(it, nil, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		var last router.Progress
		got, err := asker.GetMutable(t.Context(), old.K, old.Salt, router.WithProgress(func(p router.Progress) {
			if p.Queried < last.Queried || p.Answered < last.Answered {
				t.Errorf("progress from %+v to %+v", last, p)
			}
			last = p
		}))
		if err != nil || got.Item.Seq != 2 || got.Copies != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		if last.Queried != got.Stats.Queried || last.Found != 1 || last.Bits == 0 {
			t.Errorf("progress %+v, outcome %+v", last, got.Stats)
		}
		var refused *krpc.Error
		if _, err := fleet[7].PutMutable(t.Context(), old, nil); !errors.As(err, &refused) || refused.Code != krpc.ErrCodeSeq {
			t.Errorf("put of an old version: %v", err)
		}
		stopAll(fleet)
	})
}

// Dead nodes leave the tables, and lookups do not wait for them.
func TestDeadNodesAreForgotten(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 60, router.IPv4)
		time.Sleep(10 * time.Minute)
		for _, n := range fleet[30:] {
			n.stop()
		}
		r, err := fleet[5].FindNode(t.Context(), fleet[50].ID(router.IPv4))
		if err != nil || r.Stats.Duration > 12*time.Second {
			t.Errorf("right after: %+v, %v", r, err)
		}
		time.Sleep(2 * time.Hour)
		for _, n := range fleet[:30] {
			for _, c := range n.View().Snapshot().Nodes4 {
				for _, dead := range fleet[30:] {
					if id := dead.ID(router.IPv4); string(c[:20]) == string(id[:]) {
						t.Errorf("%v still hands out %v", n.addr, dead.addr)
					}
				}
			}
		}
		r, err = fleet[5].FindNode(t.Context(), fleet[50].ID(router.IPv4))
		if err != nil || r.Stats.Duration > 2*time.Second {
			t.Errorf("two hours later: %+v, %v", r, err)
		}
		stopAll(fleet)
	})
}

func TestNewRefuses(t *testing.T) {
	s := newSimNet(1)
	for name, c := range map[string]router.Config{
		"no sockets":     {},
		"bootstrap":      {Conns: []router.Conn{s.listen(simAddr(router.IPv4, 0))}, Bootstrap: []string{"example.org"}},
		"failing kernel": {Conns: []router.Conn{s.listen(simAddr(router.IPv4, 0))}, Kernel: &fakeKernel{fail: true}},
	} {
		if _, err := router.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := router.New(router.Config{Conns: []router.Conn{s.listen(simAddr(router.IPv4, 0))}}); err != nil {
		t.Error(err)
	}
}

// An answer counts only from the node that was asked, once, and in time.
func TestStrayAnswersAreCounted(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, nil, simAddr(router.IPv4, 0))
		honest, other := s.listen(simAddr(router.IPv4, 1)), s.listen(simAddr(router.IPv4, 2))
		// answer waits for a query and has it answered from a socket after a delay.
		answer := func(from *simConn, delay time.Duration, id router.ID) {
			ps := []router.Packet{{Data: make([]byte, 2048)}}
			for range 2 { // it is sent again to who is slow
				if _, err := honest.ReadBatch(ps); err != nil {
					return
				}
				var q krpc.Message
				if err := krpc.Decode(ps[0].Data, &q); err != nil {
					t.Error(err)
				}
				b, err := (&krpc.Message{Type: krpc.TypeResponse, TID: q.TID, ID: id, HasID: true}).Append(nil)
				if err != nil {
					t.Error(err)
				}
				time.Sleep(delay)
				s.send(from, n.addr, b)
			}
		}
		go answer(other, 0, router.ID{2})
		if _, err := n.Ping(t.Context(), honest.local); !errors.Is(err, router.ErrTimeout) {
			t.Errorf("answered from another address: %v", err)
		}
		go answer(honest, 7*time.Second, router.ID{3})
		if _, err := n.Ping(t.Context(), honest.local); !errors.Is(err, router.ErrTimeout) {
			t.Errorf("answered late: %v", err)
		}
		time.Sleep(20 * time.Second)
		go answer(honest, 1500*time.Millisecond, router.ID{4})
		pong, err := n.Ping(t.Context(), honest.local)
		if err != nil || pong.ID != (router.ID{4}) || pong.RTT < 1500*time.Millisecond {
			t.Errorf("%+v, %v", pong, err)
		}
		time.Sleep(20 * time.Second)
		for name, want := range map[string]uint64{"wrong address": 2, "late": 3, "matched": 1, "unknown transaction": 0} {
			if got := counter(n.Stats(), "reply", name); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
		if err := n.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
		n.stop()
		if _, err := n.Ping(t.Context(), honest.local); !errors.Is(err, router.ErrClosed) {
			t.Errorf("ping after the end: %v", err)
		}
		if _, err := n.FindNode(t.Context(), router.ID{1}); err == nil {
			t.Error("lookup after the end")
		}
		_, _ = honest.Close(), other.Close()
	})
}
