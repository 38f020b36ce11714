package router_test

import (
	"crypto/ed25519"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// farItem puts a mutable item at the nodes of a fleet, none of which is n, and returns it with its key.
func farItem(t *testing.T, n *simNode, by *simNode) (ed25519.PrivateKey, router.Item) {
	t.Helper()
	for i := byte(0); ; i++ {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), i))
		it := signedItem(key, "", "3:one", 1)
		if _, err := by.PutMutable(t.Context(), it, nil); err != nil {
			t.Fatal(err)
		}
		if !n.store.Holds(it.Target) {
			return key, it
		}
	}
}

// Once a put was acknowledged by a node, it gives nobody the version before, whatever a lookup that was under way meanwhile has found:
// neither those that waited for that lookup nor those that ask afterwards.
func TestNothingOldAfterPut(t *testing.T) {
	gets := map[string]func(*rdClient, *simNode, router.Item) <-chan int64{
		"recursive": func(c *rdClient, _ *simNode, it router.Item) <-chan int64 {
			q := getItem(it.Target)
			q.Recursive = true
			c.send(c.datagram(q))
			got := make(chan int64, 1)
			go func() {
				r, _ := c.receive(answerTime)
				if r == nil {
					r = new(krpc.Message)
				}
				got <- r.Seq
			}()
			return got
		},
		"of a program, kept": func(c *rdClient, n *simNode, it router.Item) <-chan int64 {
			return programGet(c.t, n, it, router.Cached())
		},
		"of a program": func(c *rdClient, n *simNode, it router.Item) <-chan int64 { return programGet(c.t, n, it) },
	}
	for name, get := range gets {
		t.Run(name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				n, _, _, _, fleet := resumable(t, s)
				key, one := farItem(t, n, fleet[0])
				c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
				const fast, slow = time.Millisecond, 100 * time.Millisecond
				set := func(d time.Duration) { s.setLatency(d, d+1) }
				var under <-chan int64
				_, err := n.UpdateMutable(t.Context(), one.K, nil, func(*router.Item) (router.Item, *int64, error) {
					// A lookup is answered with the present version, but the answers are long on their way.
					set(fast)
					under = get(c, n, one)
					time.Sleep(fast + fast/2)
					set(slow)
					time.Sleep(fast)
					set(fast)
					return signedItem(key, "", "3:two", 2), nil, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				select {
				case seq := <-under:
					t.Fatalf("the get ended before the put, with seq %d", seq)
				default:
				}
				if r := s.client(t, clientAddr(router.IPv4, 1), n.addr).ask(getItem(one.Target)); r.Seq != 2 {
					t.Errorf("after the put, while the get is under way: %s", brief(r))
				}
				if seq := <-under; seq != 2 {
					t.Errorf("the get that was under way: seq %d", seq)
				}
				if r := c.ask(getItem(one.Target)); r.Seq != 2 {
					t.Errorf("after the put: %s", brief(r))
				}
				if n.store.Holds(one.Target) {
					t.Error("the node holds the item itself")
				}
				stopAll(fleet)
			})
		})
	}
}

// A client that asks again under the same transaction ID, which is that of its next query rather than of one sent again, gets what
// there is after a put, not the answer of before.
func TestAnswersAreNotRepeatedAfterPut(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, _, fleet := resumable(t, s)
		key, one := farItem(t, n, fleet[0])
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		for _, it := range []router.Item{one, signedItem(key, "", "3:two", 2), signedItem(key, "", "5:three", 3)} {
			if _, err := n.PutMutable(t.Context(), it, nil); err != nil {
				t.Fatal(err)
			}
			c.n = 0
			if r := c.ask(getItem(it.Target)); r.Seq != it.Seq {
				t.Errorf("after seq %d: %s", it.Seq, brief(r))
			}
		}
		stopAll(fleet)
	})
}

// What was put is known for longer than it is served: a recursion that comes back from the kernel half with an older version does not
// bring it to anybody, though lookups may find the newer one no more.
func TestPutIsKnownWhenItIsServedNoMore(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		s.config.Recursion = recursion
		s.config.Recursion.CacheTTL = time.Second
		fleet := s.startSim(t, 40, router.IPv4)
		time.Sleep(time.Minute)
		n := fleet[1]
		key, one := farItem(t, n, fleet[0])
		two := signedItem(key, "", "3:two", 2)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		if r := c.ask(putItem(two, nil)); r.Type != krpc.TypeResponse {
			t.Fatal(brief(r))
		}
		for _, m := range fleet {
			if m != n {
				m.stop()
			}
		}
		time.Sleep(2 * time.Second)
		if r := c.ask(getItem(one.Target)); r.V != nil {
			t.Fatalf("served for longer than the second that was configured: %s", brief(r))
		}
		st := stateOf(c, n, one.Target)
		r := krpc.Message{Type: krpc.TypeResponse, TID: []byte("krnl"), ID: fleet[0].ID(router.IPv4), HasID: true, V: one.V, K: one.K[:], Seq: 1, HasSeq: true, Sig: one.Sig[:]}
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		st.Reply, st.ReplyFrom = b, fleet[0].addr
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		if r, _ := c.receive(answerTime); r == nil || r.Seq != 2 {
			t.Errorf("after a put of seq 2: %s", brief(r))
		}
		n.stop()
	})
}

// Peers that a lookup finds which was under way during an announce are not those that others get afterwards.
func TestFoundPeersHaveTheLatest(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, infohash, _, fleet := s.startAnnounced(t)
		c, peer := s.client(t, clientAddr(router.IPv4, 0), n.addr), s.client(t, clientAddr(router.IPv4, 1), n.addr)
		s.setLatency(100*time.Millisecond, 101*time.Millisecond)
		q := getPeers(infohash)
		q.Recursive = true
		c.send(c.datagram(q))
		time.Sleep(10 * time.Millisecond)
		if r := peer.ask(announce(infohash, nil, 999)); r.Type != krpc.TypeResponse {
			t.Fatal(brief(r))
		}
		if r, took := c.receive(answerTime); r == nil || took == 0 {
			t.Fatalf("the lookup was not under way: %s", brief(r))
		}
		r := c.ask(getPeers(infohash))
		if all := slices.Collect(krpc.Peers(r.Values)); !slices.Contains(all, netip.AddrPortFrom(peer.conn.local.Addr(), 999)) {
			t.Errorf("after the announce: %v", all)
		}
		stopAll(fleet)
	})
}

// programGet is a get by a program on the machine.
func programGet(t *testing.T, n *simNode, it router.Item, opts ...router.Option) <-chan int64 {
	got := make(chan int64, 1)
	go func() {
		r, err := n.GetMutable(t.Context(), it.K, it.Salt, opts...)
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		got <- r.Item.Seq
	}()
	return got
}

// Who asks after a put or an announce that was acknowledged is told of it, also where he joins a lookup that somebody had asked for before.
func TestStoredIsThereForWhoJoins(t *testing.T) {
	it := signedItem(ed25519.NewKeyFromSeed(append(make([]byte, 31), 77)), "", "3:one", 1)
	for _, c := range []struct {
		name  string
		key   func(infohash router.ID) router.ID
		store func(token []byte, infohash router.ID) krpc.Message
		get   func(infohash router.ID) krpc.Message
		has   func(r *krpc.Message, from netip.Addr) bool
	}{
		{
			"item", func(router.ID) router.ID { return it.Target }, func(token []byte, _ router.ID) krpc.Message { return putItem(it, token) },
			func(router.ID) krpc.Message { return getItem(it.Target) },
			func(r *krpc.Message, _ netip.Addr) bool { return string(r.V) == string(it.V) },
		},
		{
			"peer", func(infohash router.ID) router.ID { return infohash }, func(token []byte, infohash router.ID) krpc.Message { return announce(infohash, token, 999) }, getPeers,
			func(r *krpc.Message, from netip.Addr) bool {
				return slices.Contains(slices.Collect(krpc.Peers(r.Values)), netip.AddrPortFrom(from, 999))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				n, infohash, _, fleet := s.startAnnounced(t)
				far := ranked(fleet, router.IPv4, c.key(infohash))
				for _, m := range fleet[1:] {
					if slices.Contains(far[len(far)-2:], m.ID(router.IPv4)) {
						n = m
					}
				}
				first, second := s.client(t, clientAddr(router.IPv4, 0), n.addr), s.client(t, clientAddr(router.IPv4, 1), n.addr)
				s.setLatency(100*time.Millisecond, 101*time.Millisecond)
				q := c.get(infohash)
				q.Recursive = true
				first.send(first.datagram(q))
				time.Sleep(110 * time.Millisecond) // its queries are on their way
				s.setLatency(time.Millisecond, 2*time.Millisecond)
				token := n.View().Token(second.conn.local.Addr())
				second.send(second.datagram(c.store(token[:], infohash)))
				if r, _ := second.receive(answerTime); r == nil || r.Type != krpc.TypeResponse {
					t.Fatal(brief(r))
				}
				r := second.ask(q)
				if got := counted(n, "joined one under way"); got != 1 {
					t.Errorf("%d joined a lookup", got)
				}
				if !c.has(r, second.conn.local.Addr()) {
					t.Errorf("after it was stored: %s, peers %v", brief(r), slices.Collect(krpc.Peers(r.Values)))
				}
				stopAll(fleet)
			})
		})
	}
}

// Who asks for peers again under the same transaction ID, after an announce, is told of it, and not what he was told before.
func TestAnswersAreNotRepeatedAfterAnnounce(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, infohash, _, fleet := s.startAnnounced(t)
		c := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		c.n = 0
		c.ask(getPeers(infohash))
		if r := c.ask(announce(infohash, nil, 999)); r.Type != krpc.TypeResponse {
			t.Fatal(brief(r))
		}
		c.n = 0
		r := c.ask(getPeers(infohash))
		if all := slices.Collect(krpc.Peers(r.Values)); !slices.Contains(all, netip.AddrPortFrom(c.conn.local.Addr(), 999)) {
			t.Errorf("after the announce: %v", all)
		}
		stopAll(fleet)
	})
}
