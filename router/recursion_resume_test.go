package router_test

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// resumable runs nodes with an item, and returns a node that does not hold it, some that do and some that do not.
func resumable(t *testing.T, s *simNet) (n *simNode, holders, others []*simNode, it router.Item, fleet []*simNode) {
	t.Helper()
	fleet = s.startRecursive(t, 40, router.IPv4)
	time.Sleep(time.Minute)
	put, err := fleet[0].PutImmutable(t.Context(), []byte("5:hello"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fleet[1:] {
		switch {
		case m.store.Holds(put.Target):
			holders = append(holders, m)
		case n == nil:
			n = m
		default:
			others = append(others, m)
		}
	}
	return n, holders, others, router.Item{Target: put.Target, V: []byte("5:hello")}, fleet
}

func (n *simNode) contact() router.Contact {
	return router.Contact{ID: n.ID(router.IPv4), Addr: n.addr}
}

// stateOf is what a kernel has that was asked for an item by a client.
func stateOf(c *rdClient, n *simNode, target router.ID) router.RecursionState {
	c.n++
	return router.RecursionState{
		Client: c.conn.local, Local: n.addr, TID: []byte("kernel's client"), Method: krpc.MethodGet, Target: target, Started: time.Now(),
	}
}

// responseOf is the response of a node to a get.
func responseOf(t *testing.T, n *simNode, v []byte, nodes ...router.Contact) []byte {
	t.Helper()
	r := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: n.ID(router.IPv4), HasID: true, V: v, Nodes: []byte{}}
	for _, c := range nodes {
		r.Nodes = krpc.AppendNode(r.Nodes, c.ID, c.Addr)
	}
	b, err := r.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the kernel has received is verified, and is the answer; what it has asked is not asked again.
func TestResume(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, holders, others, it, fleet := resumable(t, s)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		resume := func(what string, st router.RecursionState) (asked map[netip.AddrPort]int) {
			t.Helper()
			asked = make(map[netip.AddrPort]int)
			s.tapQueries(func(from, to netip.AddrPort, q *krpc.Message) {
				if from == n.addr && q.Method == krpc.MethodGet && q.Target == it.Target {
					asked[to]++
				}
			})
			if err := n.Resume(st); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			r, _ := c.receive(answerTime)
			if r == nil || string(r.V) != string(it.V) || string(r.TID) != string(st.TID) || r.IP != c.conn.local || r.Token == nil {
				t.Errorf("%s: %s", what, brief(r))
			}
			s.untap()
			return asked
		}

		st := stateOf(c, n, it.Target)
		st.Asked = []router.AskedNode{{Contact: others[0].contact(), Answered: true}, {Contact: holders[0].contact()}}
		st.Reply, st.ReplyFrom = responseOf(t, holders[0], []byte("6:forged"), holders[1].contact()), holders[0].addr
		asked := resume("a forged value", st)
		if len(asked) == 0 || asked[others[0].addr] != 0 || asked[holders[0].addr] != 0 || counted(n, "forged value") == 0 {
			t.Errorf("asked %v, forged %d", asked, counted(n, "forged value"))
		}

		// The cache answers those that come now, and knows what a reply says.
		if asked = resume("known meanwhile", stateOf(c, n, it.Target)); len(asked) != 0 {
			t.Errorf("asked %v", asked)
		}
		m := others[1]
		c = s.client(t, clientAddr(router.IPv4, 1), m.addr)
		n = m
		st = stateOf(c, n, it.Target)
		st.Reply, st.ReplyFrom = responseOf(t, holders[0], it.V), holders[0].addr
		if asked = resume("the value", st); len(asked) != 0 {
			t.Errorf("asked %v", asked)
		}

		// What is silent, or answers with an error, or with garbage, is passed over.
		for i, reply := range [][]byte{nil, []byte("d1:eli202e1:xe1:t4:krnl1:y1:ee"), []byte("no bencoding")} {
			n = others[2+i]
			c = s.client(t, clientAddr(router.IPv4, 2+i), n.addr)
			st = stateOf(c, n, it.Target)
			for _, h := range holders[:2] {
				st.Asked = append(st.Asked, router.AskedNode{Contact: h.contact()})
			}
			st.Candidates = []router.Contact{holders[2].contact(), {}, {ID: it.Target, Addr: n.addr}, {ID: it.Target, Addr: netip.MustParseAddrPort("127.0.0.1:1")}}
			st.Reply, st.ReplyFrom = reply, holders[1].addr
			st.Started = time.Now().Add(-time.Hour) // late, and yet in time
			if asked = resume("nothing", st); asked[holders[0].addr]+asked[holders[1].addr] != 0 {
				t.Errorf("asked %v", asked)
			}
		}
		stopAll(fleet)
	})
}

// A node that names a full answer of peers that are none does not decide what clients get: what others name is in it, too, also when
// they take longer than usual; and no peers at addresses where nobody can be.
func TestNoNodeDecidesWhoThePeersAre(t *testing.T) {
	nowhere := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("240.0.0.1:1"), netip.MustParseAddrPort("198.19.7.1:0")}
	for name, latency := range map[string]time.Duration{"as usual": 0, "slow": 150 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				s.setLatency(time.Millisecond, 2*time.Millisecond)
				fleet := s.startRecursive(t, 40, router.IPv4)
				time.Sleep(time.Minute)
				infohash := router.ID{1}
				var want []netip.AddrPort
				for i := range 3 {
					if _, err := fleet[i].Announce(t.Context(), infohash, 4242, false); err != nil {
						t.Fatal(err)
					}
					want = append(want, netip.AddrPortFrom(fleet[i].addr.Addr(), 4242))
				}
				var n *simNode
				for _, m := range fleet[3:] {
					if !m.store.Holds(infohash) {
						n = m
						break
					}
				}
				if latency > 0 {
					s.setLatency(latency, latency+1)
				}
				var values []byte
				for _, p := range nowhere {
					values = krpc.AppendPeer(values, p)
				}
				for i := range 200 {
					values = krpc.AppendPeer(values, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 7, byte(i)}), 1))
				}
				reply, err := (&krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: fleet[39].ID(router.IPv4), HasID: true, Values: values}).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
				st := stateOf(c, n, infohash)
				st.Method, st.Reply, st.ReplyFrom = krpc.MethodGetPeers, reply, fleet[39].addr
				if err := n.Resume(st); err != nil {
					t.Fatal(err)
				}
				first, _ := c.receive(answerTime)
				again := c.ask(getPeers(infohash)) // from what was kept
				for what, r := range map[string]*krpc.Message{"taken over": first, "kept": again} {
					if r == nil {
						t.Errorf("%s: no answer", what)
						continue
					}
					got := slices.Collect(krpc.Peers(r.Values))
					for _, p := range want {
						if !slices.Contains(got, p) {
							t.Errorf("%s: %v is not among the %d peers", what, p, len(got))
						}
					}
					for _, p := range nowhere {
						if slices.Contains(got, p) {
							t.Errorf("%s: %v is among the peers", what, p)
						}
					}
				}
				stopAll(fleet)
			})
		})
	}
}

// Nodes of one family that name its peers do not keep a client from those of the other: until several have named some there, too, or
// nobody is left to ask, what one made up is not the answer, nor kept for the next.
func TestPeersOfOneFamilyDoNotStandForTheOther(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		s.setLatency(time.Millisecond, 2*time.Millisecond)
		fleet := s.startRecursive(t, 40, router.IPv4, router.IPv6)
		time.Sleep(time.Minute)
		infohash := router.ID{1}
		if _, err := fleet[0].Announce(t.Context(), infohash, 4242, false); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(fleet, func(n *simNode) bool { return !n.store.Holds(infohash) })
		n := fleet[i]
		s.setSlower6(50 * time.Millisecond)
		made := krpc.AppendPeer(nil, netip.AddrPortFrom(simAddr(router.IPv6, 99).Addr(), 1))
		reply, err := (&krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: fleet[39].ID(router.IPv4), HasID: true, Values: made}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		c4 := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		st := stateOf(c4, n, infohash)
		st.Method, st.Reply, st.ReplyFrom = krpc.MethodGetPeers, reply, fleet[39].addr
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		first, _ := c4.receive(answerTime)
		c6 := s.client(t, clientAddr(router.IPv6, 0), simAddr(router.IPv6, i))
		again := c6.ask(getPeers(infohash))
		for f, r := range []*krpc.Message{first, again} {
			if r == nil {
				t.Errorf("IPv%d: no answer", 4+2*f)
				continue
			}
			want := netip.AddrPortFrom(simAddr(router.Family(f), 0).Addr(), 4242)
			if got := slices.Collect(krpc.Peers(r.Values)); !slices.Contains(got, want) {
				t.Errorf("%v is not among %v", want, got)
			}
		}
		stopAll(fleet)
	})
}

// get_peers and find_node go on likewise.
func TestResumeOtherMethods(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startRecursive(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		if _, err := fleet[3].Announce(t.Context(), router.ID{1}, 4242, false); err != nil {
			t.Fatal(err)
		}
		n := fleet[20]
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		st := stateOf(c, n, router.ID{1})
		st.Method, st.Want = krpc.MethodGetPeers, krpc.WantN4|krpc.WantN6
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		r, _ := c.receive(answerTime)
		if r == nil || len(r.Values) != 8 || r.Nodes6 == nil {
			t.Errorf("peers: %s", brief(r))
		}
		st = stateOf(c, n, router.ID{2})
		st.Method, st.Local = krpc.MethodFindNode, netip.AddrPort{}
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(exactly(fleet, router.IPv4, router.ID{2}), func(id router.ID) bool { return id == n.ID(router.IPv4) })
		var got []router.ID
		if r, _ = c.receive(answerTime); r != nil {
			for id := range krpc.Nodes(r.Nodes) {
				got = append(got, id)
			}
		}
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("found %v, want %v", got, want)
		}
		for what, bad := range map[string]router.RecursionState{
			"put":     {Client: c.conn.local, Method: krpc.MethodPut},
			"family":  {Client: netip.MustParseAddrPort("[2001:db8::1]:1"), Method: krpc.MethodGet},
			"port":    {Client: c.conn.local, Local: netip.AddrPortFrom(n.addr.Addr(), 1), Method: krpc.MethodGet},
			"address": {Client: c.conn.local, Local: fleet[0].addr, Method: krpc.MethodGet},
		} {
			if err := n.Resume(bad); !errors.Is(err, router.ErrNotResumable) {
				t.Errorf("%s: %v", what, err)
			}
		}
		stopAll(fleet)
	})
}

// kernelStub has one recursion under way.
type kernelStub struct {
	mu    sync.Mutex
	tid   string
	from  netip.AddrPort
	state router.RecursionState
	taken int
	// answered counts the clients that had their answers before the rest of their recursions was ended.
	answered int
	// dismissed counts, by transaction ID.
	dismissed map[string]int
}

func (k *kernelStub) Dismiss(tid [4]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dismissed == nil {
		k.dismissed = make(map[string]int)
	}
	k.dismissed[string(tid[:])]++
}

// dismissals returns how often each transaction was dismissed since the last call.
func (k *kernelStub) dismissals() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.dismissed
	k.dismissed = nil
	return was
}

func (k *kernelStub) Take(tid []byte, from netip.AddrPort, answer func(*router.RecursionState) bool) (router.RecursionState, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if string(tid) != k.tid || from != k.from || k.taken > 0 {
		return router.RecursionState{}, false
	}
	k.taken++
	st := k.state
	if own := k.state; answer(&own) {
		st.Unanswered = nil
		k.answered++
	}
	return st, true
}

// An answer to the kernel that comes after user space has taken over is no less welcome: the node that gave it need not answer
// once more.
func TestLateAnswerToTheKernelIsTaken(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 0))
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		v := []byte("5:hello")
		a := simAddr(router.IPv4, 10)
		slow := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(q, r *krpc.Message) *krpc.Message { return nil })
		st := stateOf(c, n, krpc.ImmutableTarget(v))
		st.Candidates = []router.Contact{slow.contact()}
		st.Unanswered = []router.KernelQuery{{Addr: a, TID: [4]byte([]byte("krnl")), Sent: time.Now().Add(-100 * time.Millisecond)}}
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		r := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: slow.contact().ID, HasID: true, V: v}
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		s.send(slow.conn, n.addr, b)
		if r, _ := c.receive(answerTime); r == nil || string(r.V) != string(v) {
			t.Error(brief(r))
		}
		if took := time.Since(begun); took > 250*time.Millisecond { // two ways
			t.Errorf("the client has its answer %v after the node sent it", took)
		}
		n.stop()
		_ = slow.conn.Close()
	})
}

// What the kernel has received for a query that joins a lookup counts for everybody who waits.
func TestReplyJoinsTheLookupUnderWay(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 0))
		a := simAddr(router.IPv4, 10)
		silent := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(q, r *krpc.Message) *krpc.Message { return nil })
		_, key, _ := ed25519.GenerateKey(nil)
		public := key.Public().(ed25519.PublicKey)
		v, peers := []byte("5:newer"), simAddr(router.IPv4, 11)
		response := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: anyID(), HasID: true}
		item, list := response, response
		item.K, item.Seq, item.HasSeq, item.Sig, item.V = public, 7, true, krpc.Sign(key, nil, 7, v), v
		list.Values = krpc.AppendPeer([]byte{}, peers)
		for method, reply := range map[krpc.Method]*krpc.Message{krpc.MethodGet: &item, krpc.MethodGetPeers: &list} {
			b, err := reply.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			var clients []*rdClient
			for i := range 2 {
				c := s.client(t, clientAddr(router.IPv4, 2*int(method)+i), n.addr)
				st := stateOf(c, n, krpc.MutableTarget(public, nil))
				st.Method, st.Candidates = method, []router.Contact{silent.contact()}
				if i == 1 {
					st.Reply, st.ReplyFrom = b, simAddr(router.IPv4, 20)
				}
				if err := n.Resume(st); err != nil {
					t.Fatal(err)
				}
				clients = append(clients, c)
			}
			for i, c := range clients {
				if r, _ := c.receive(answerTime); r == nil || string(r.V) != string(reply.V) || r.Seq != reply.Seq || string(r.Values) != string(reply.Values) {
					t.Errorf("%v: client %d: %s", method, i, brief(r))
				}
			}
		}
		n.stop()
		_ = silent.conn.Close()
	})
}

// A version that the kernel has received is not answered with an older one that was found shortly before, nor the other way round.
func TestReplyNewerThanWhatWasFound(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 0))
		_, key, _ := ed25519.GenerateKey(nil)
		public := key.Public().(ed25519.PublicKey)
		for i, seqs := range [][2]int64{{1, 1}, {2, 2}, {1, 2}, {3, 3}} { // received, wanted
			v := []byte{'1', ':', '0' + byte(seqs[0])}
			r := krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("krnl"), ID: anyID(), HasID: true,
				K: public, Seq: seqs[0], HasSeq: true, Sig: krpc.Sign(key, nil, seqs[0], v), V: v,
			}
			b, err := r.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			c := s.client(t, clientAddr(router.IPv4, i), n.addr)
			st := stateOf(c, n, krpc.MutableTarget(public, nil))
			st.Reply, st.ReplyFrom = b, simAddr(router.IPv4, 20)
			if err := n.Resume(st); err != nil {
				t.Fatal(err)
			}
			if got, _ := c.receive(answerTime); got == nil || got.Seq != seqs[1] {
				t.Errorf("%d: received version %d, want %d: %s", i, seqs[0], seqs[1], brief(got))
			}
		}
		n.stop()
	})
}

// The answers to the kernel's queries are waited for as long as they are of use, and the kernel is told when they are not, once.
func TestAnswersToTheKernelAreDismissed(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 0))
		k := new(kernelStub)
		n.SetKernelRecursion(k)
		v := []byte("5:hello")
		var silent []*remote
		for i := range 3 {
			a := simAddr(router.IPv4, 10+i)
			silent = append(silent, s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(q, r *krpc.Message) *krpc.Message { return nil }))
		}
		resume := func(client int, target router.ID, f func(*router.RecursionState)) *rdClient {
			t.Helper()
			c := s.client(t, clientAddr(router.IPv4, client), n.addr)
			st := stateOf(c, n, target)
			for i, r := range silent {
				st.Candidates = append(st.Candidates, r.contact())
				st.Unanswered = append(st.Unanswered, router.KernelQuery{Addr: r.contact().Addr, TID: [4]byte{'k', byte('0' + client), 0, byte(i)}, Sent: time.Now().Add(-100 * time.Millisecond)})
			}
			f(&st)
			if err := n.Resume(st); err != nil {
				t.Fatal(err)
			}
			return c
		}
		all := func(client byte) map[string]int {
			m := make(map[string]int)
			for i := range silent {
				m[string([]byte{'k', '0' + client, 0, byte(i)})] = 1
			}
			return m
		}
		resume(1, krpc.ImmutableTarget(v), func(st *router.RecursionState) {
			r := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: anyID(), HasID: true, V: v}
			var err error
			if st.Reply, err = r.Append(nil); err != nil {
				t.Fatal(err)
			}
			st.ReplyFrom = simAddr(router.IPv4, 20)
		})
		if got := k.dismissals(); !maps.Equal(got, all(1)) {
			t.Errorf("answered at once: dismissed %v, want %v", got, all(1))
		}
		other := krpc.ImmutableTarget([]byte("5:other"))
		resume(2, other, func(*router.RecursionState) {})
		if got := k.dismissals(); len(got) != 0 {
			t.Errorf("while it goes on: dismissed %v", got)
		}
		resume(3, other, func(*router.RecursionState) {})
		if got := k.dismissals(); !maps.Equal(got, all(3)) {
			t.Errorf("joined one under way: dismissed %v, want %v", got, all(3))
		}
		time.Sleep(time.Minute)
		if got := k.dismissals(); !maps.Equal(got, all(2)) {
			t.Errorf("after the end: dismissed %v, want %v", got, all(2))
		}
		c := s.client(t, clientAddr(router.IPv4, 4), n.addr)
		bad := stateOf(c, n, other)
		bad.Local = netip.AddrPortFrom(n.addr.Addr(), 1)
		bad.Unanswered = []router.KernelQuery{{Addr: silent[0].contact().Addr, TID: [4]byte{'k', '4'}}}
		if err := n.Resume(bad); !errors.Is(err, router.ErrNotResumable) {
			t.Error(err)
		}
		if got := k.dismissals(); !maps.Equal(got, map[string]int{"k4\x00\x00": 1}) {
			t.Errorf("not resumable: dismissed %v", got)
		}
		n.SetKernelRecursion(nil)
		n.stop()
		for _, r := range silent {
			_ = r.conn.Close()
		}
	})
}

// A node that has answered the kernel with an error is not asked again.
func TestErrorToTheKernelIsFinal(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{Recursion: recursion}, newMemStore(), simAddr(router.IPv4, 0))
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		a := simAddr(router.IPv4, 10)
		asked := 0
		refuses := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(q, r *krpc.Message) *krpc.Message {
			if q.Method == krpc.MethodGet {
				asked++
			}
			return r
		})
		st := stateOf(c, n, krpc.ImmutableTarget([]byte("5:hello")))
		st.Candidates = []router.Contact{refuses.contact(), refuses.contact()}
		st.Reply, st.ReplyFrom = []byte("d1:eli204e14:Method Unknowne1:t4:krnl1:y1:ee"), a
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		if r, _ := c.receive(answerTime); r == nil || r.V != nil {
			t.Error(brief(r))
		}
		if asked > 0 {
			t.Errorf("asked %d times", asked)
		}
		n.stop()
		_ = refuses.conn.Close()
	})
}

// The answer to a query that the kernel has sent finds its client.
func TestReplyToTheKernelIsTakenOver(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, holders, _, it, fleet := resumable(t, s)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		k := &kernelStub{tid: "krnl", from: holders[0].addr, state: stateOf(c, n, it.Target)}
		n.SetKernelRecursion(k)
		for range 2 { // the second is no more than an unknown answer
			s.send(&simConn{net: s, local: holders[0].addr}, n.addr, responseOf(t, holders[0], it.V))
		}
		s.send(&simConn{net: s, local: holders[1].addr}, n.addr, responseOf(t, holders[1], it.V)) // nobody has asked it
		if r, _ := c.receive(answerTime); r == nil || string(r.V) != string(it.V) {
			t.Error(brief(r))
		}
		if r, _ := c.receive(answerTime); r != nil {
			t.Errorf("a second answer: %s", brief(r))
		}
		if counted(n, "taken over from the kernel") != 1 || k.taken != 1 || k.answered != 1 {
			t.Error("not counted once")
		}
		n.SetKernelRecursion(nil)
		stopAll(fleet)
	})
}
