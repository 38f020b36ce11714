package router_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// One lookup serves all who want the same, each with the answer to its own query.
func TestRecursionIsShared(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, it, fleet := resumable(t, s)
		var clients []*rdClient
		for i := range 5 {
			clients = append(clients, s.client(t, clientAddr(router.IPv4, i), n.addr))
		}
		s.setLatency(60*time.Millisecond, 61*time.Millisecond) // all queries are there before the first answer can be
		q := getItem(it.Target)
		q.Recursive = true
		b := clients[0].datagram(q)
		clients[0].send(b)
		for range 3 {
			clients[0].send(b) // nobody knows why
		}
		clients[0].send(clients[0].datagram(q)) // the same with another transaction ID
		for i, c := range clients[1:] {
			q := q
			if i == 0 {
				q.Seq, q.HasSeq = 5, true // means nothing for an immutable item
			}
			c.send(c.datagram(q))
		}
		tids := make(map[string]int)
		for i, c := range clients {
			answers := 1
			if i == 0 {
				answers = 2
			}
			for range answers {
				r, _ := c.receive(answerTime)
				if r == nil || string(r.V) != string(it.V) || r.IP != c.conn.local {
					t.Fatalf("client %d: %s", i, brief(r))
				}
				if i == 0 {
					tids[string(r.TID)]++
				}
			}
			if r, _ := c.receive(answerTime); r != nil {
				t.Errorf("client %d: another answer: %s", i, brief(r))
			}
		}
		if tids["1"] != 1 || tids["2"] != 1 {
			t.Errorf("answers to %v", tids)
		}
		if counted(n, "begun") != 1 || counted(n, "joined one under way") != 5 || counted(n, "query repeated") != 3 {
			t.Errorf("%d begun, %d joined, %d repeated", counted(n, "begun"), counted(n, "joined one under way"), counted(n, "query repeated"))
		}
		if st := n.Stats().Recursion; st.UnderWay != 0 || st.Cached != 1 || st.CacheBytes < int64(len(it.V)) || len(st.Allow) != 2 {
			t.Errorf("%+v", st)
		}
		stopAll(fleet)
	})
}

// As many as there may be wait for those under way. What is over the bounds is answered as if it were not recursive, at once.
func TestRecursionIsBounded(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 30, router.IPv4)
		time.Sleep(time.Minute)
		c := recursion
		c.MaxLookups, c.MaxPerClient = 2, 2
		n := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, Recursion: c}, newMemStore(), simAddr(router.IPv4, 50))
		time.Sleep(time.Minute)
		a, b, third := s.client(t, clientAddr(router.IPv4, 0), n.addr), s.client(t, clientAddr(router.IPv4, 1), n.addr), s.client(t, clientAddr(router.IPv4, 2), n.addr)
		s.setLatency(100*time.Millisecond, 100*time.Millisecond+1) // all queries are there before the first answer can be
		put := recursivePut(router.Item{V: []byte("1:x")})
		for _, q := range []struct {
			c *rdClient
			m krpc.Message
		}{
			{a, getItem(router.ID{0})}, {a, getItem(router.ID{1})}, {a, getItem(router.ID{2})},
			{b, getItem(router.ID{3})}, {b, getItem(router.ID{4})}, {b, put},
			{third, getItem(router.ID{5})}, {third, put}, {third, getItem(router.ID{0})},
		} {
			q.m.Recursive = true
			q.c.send(q.c.datagram(q.m))
			time.Sleep(time.Millisecond)
		}
		got := make(map[*rdClient]map[string]string)
		for c, queries := range map[*rdClient]int{a: 3, b: 3, third: 3} {
			got[c] = make(map[string]string)
			for range queries {
				r, _ := c.receive(answerTime)
				switch {
				case r == nil:
				case r.Type == krpc.TypeError:
					got[c][string(r.TID)] = fmt.Sprint("error ", r.Err.Code)
				case r.HasRecursive:
					got[c][string(r.TID)] = "looked up"
				case len(r.Nodes) > 0 && r.Token != nil:
					got[c][string(r.TID)] = "plain"
				}
			}
		}
		if s := fmt.Sprint(got[a]); s != "map[1:looked up 2:looked up 3:plain]" {
			t.Errorf("two of one client: %s", s)
		}
		if s := fmt.Sprint(got[b]); s != "map[1:looked up 2:plain 3:error 202]" {
			t.Errorf("two that wait, of which one gives way: %s", s)
		}
		// One takes the place of the client that has more of them, and the one that joins costs nothing but the client's share.
		if s := fmt.Sprint(got[third]); s != "map[1:looked up 2:error 202 3:looked up]" {
			t.Errorf("when two wait: %s", s)
		}
		if counted(n, "over the limit") != 4 || counted(n, "waited for others") != 3 {
			t.Errorf("%d over the limit, %d waited", counted(n, "over the limit"), counted(n, "waited for others"))
		}
		if r := a.ask(getItem(router.ID{9})); !r.HasRecursive { // and now there is room
			t.Errorf("%s", brief(r))
		}
		n.stop()
		stopAll(fleet)
	})
}

// Who may not ask for recursion gets the bytes that it would get without.
func TestRecursionIsDenied(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, it, fleet := resumable(t, s)
		c := s.client(t, netip.MustParseAddrPort("203.0.113.7:4000"), n.addr)
		salted := recursivePut(router.Item{V: []byte("1:x")})
		salted.K, salted.Sig, salted.Seq, salted.HasSeq, salted.Salt = make([]byte, 32), make([]byte, 64), 1, true, make([]byte, 65)
		withToken := salted
		withToken.Token = []byte("forgedxx")
		for name, q := range map[string]krpc.Message{
			"ping":              {Method: krpc.MethodPing},
			"get":               getItem(it.Target),
			"get_peers":         getPeers(router.ID{1}),
			"find_node":         {Method: krpc.MethodFindNode, Target: router.ID{1}, HasTarget: true},
			"put":               recursivePut(router.Item{V: []byte("1:x")}),
			"put, long":         recursivePut(router.Item{V: append([]byte("998:"), make([]byte, 998)...)}),
			"put, long salt":    salted,
			"put, token":        withToken,
			"announce_peer":     announce(router.ID{1}, nil, 1),
			"announce, no port": {Method: krpc.MethodAnnouncePeer, InfoHash: router.ID{1}, HasInfoHash: true},
			"sample":            {Method: krpc.MethodSampleInfohashes, Target: router.ID{1}, HasTarget: true},
			"unknown":           {Method: krpc.MethodUnknown, Name: []byte("vote"), Target: router.ID{1}, HasTarget: true},
		} {
			var answers [2][]byte
			for i := range answers {
				q.Recursive = i == 1
				c.n = 0
				c.send(c.datagram(q))
				select {
				case p := <-c.conn.inbox:
					answers[i] = p.Data
				case <-time.After(answerTime):
				}
			}
			if answers[0] == nil || !bytes.Equal(answers[0], answers[1]) {
				t.Errorf("%s: without rd %q, with %q", name, answers[0], answers[1])
			}
		}
		if counted(n, "not allowed") == 0 || counted(n, "begun") != 0 {
			t.Errorf("%d not allowed, %d begun", counted(n, "not allowed"), counted(n, "begun"))
		}
		stopAll(fleet)
	})
}

// A client beside the prefixes is allowed by where its query was sent to.
func TestRecursionIsAllowedByDestination(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 20, router.IPv4)
		time.Sleep(time.Minute)
		client, addr := netip.MustParseAddrPort("100.90.1.1:4000"), simAddr(router.IPv4, 50)
		for _, ours := range []netip.Addr{addr.Addr(), netip.MustParseAddr("100.101.102.103")} {
			c := recursion
			c.Also = func(from, to netip.Addr) bool { return from == client.Addr() && to == ours }
			n := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, Recursion: c}, newMemStore(), addr)
			time.Sleep(time.Minute)
			r := s.client(t, client, n.addr).ask(getItem(router.ID{1}))
			if r.HasRecursive != (ours == addr.Addr()) {
				t.Errorf("allowed at %v, asked at %v: %s", ours, addr, brief(r))
			}
			n.stop()
		}
		stopAll(fleet)
	})
}
