package router_test

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// Whoever forges the addresses of clients has the node send hardly anything to others, whether he has it look things up or put them. Meanwhile a
// client that has proved its address is served as ever, and one that has not is asked to, and then is as well.
func TestForgedClientsCountAsOne(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		c := recursion
		c.QueryRate = 800
		n, stop := startResolverWith(t, s, c, limit.Config{Growth: 1 << 40})
		var queries atomic.Int64
		s.tapQueries(func(from, _ netip.AddrPort, q *krpc.Message) {
			if from == n.addr && q.Method != krpc.MethodPing { // by those it finds out who is a node
				queries.Add(1)
			}
		})
		forged := 0
		flood := func(length time.Duration) {
			for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				forged++
				m := krpc.Message{Method: krpc.MethodFindNode, HasTarget: true}
				switch forged % 3 {
				case 1:
					m = krpc.Message{Method: krpc.MethodGet, HasTarget: true}
				case 2:
					m = recursivePut(router.Item{V: []byte("1:" + string(rune('a'+forged%26)))})
				}
				m.Type, m.TID, m.HasID, m.Recursive = krpc.TypeQuery, []byte("aa"), true, true
				binary.BigEndian.PutUint64(m.Target[:], uint64(forged)*0x9e3779b97f4a7c15)
				b, err := m.Append(nil)
				if err != nil {
					t.Error(err)
					return
				}
				s.deliver(n.addr, router.Packet{Data: b, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(forged >> 8), byte(forged)}), 4000)})
			}
		}
		const length = 10 * time.Second
		flood(length)
		time.Sleep(answerTime)
		// What may be sent at once, and what in the time until the last has ended; puts are sent on to those who were found.
		most := int64(800/8*(length+answerTime).Seconds()) * 3 / 2
		t.Logf("%d queries sent because of %d from forged addresses", queries.Load(), forged)
		if got := queries.Load(); got == 0 || got > most {
			t.Errorf("%d queries sent because of %d from forged addresses, want at most %d", got, forged, most)
		}

		token := n.View().Token(clientAddr(router.IPv4, 0).Addr())
		honest := &coldClient{rdClient: s.client(t, clientAddr(router.IPv4, 0), n.addr)}
		honest.send(honest.datagram(announce(router.ID{1}, token[:], 9)))
		if r, _ := honest.receive(answerTime); r == nil || r.Type != krpc.TypeResponse {
			t.Fatalf("announced: %s", brief(r))
		}
		fresh := s.client(t, clientAddr(router.IPv4, 1), n.addr)
		done := make(chan bool)
		go func() { flood(length); done <- true }()
		go func() { honest.run(1, 4, 50*time.Millisecond, length); done <- true }()
		time.Sleep(time.Second)
		q := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{77}, HasTarget: true, Recursive: true}
		var r *krpc.Message
		for range 3 { // it may have had a place among those who may be forged, and not its turn in time
			fresh.send(fresh.datagram(q))
			if r, _ = fresh.receive(answerTime); r == nil || r.Recursive {
				break
			}
			if r.Method == krpc.MethodPing && len(r.TID) == 8 {
				b, err := (&krpc.Message{Type: krpc.TypeResponse, TID: r.TID, HasID: true}).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				fresh.send(b)
				time.Sleep(time.Second) // on the way it and the query after it may change places
			}
		}
		if r == nil || r.Type != krpc.TypeResponse || !r.Recursive {
			t.Errorf("a client that answers when it is asked for a proof: %s", brief(r))
		}
		<-done
		<-done
		if honest.found < honest.asked || honest.asked < 50 {
			t.Errorf("a client that has proved its address: %d of %d found", honest.found, honest.asked)
		}
		stop()
	})
}

// forger returns what has a node asked for a target by a query like q, each time from another forged address.
func (s *simNet) forger(t *testing.T, n *simNode, q krpc.Message) func(target router.ID) {
	forged := 0
	return func(target router.ID) {
		t.Helper()
		forged++
		q.Type, q.TID, q.HasID, q.Target = krpc.TypeQuery, []byte("aa"), true, target
		b, err := q.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.deliver(n.addr, router.Packet{Data: b, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 1, byte(forged)}), 4000)})
	}
}

// A client that has proved its address and asks for what a forger has had looked up has its answer as if it had been the first: neither does it wait for what there
// is for those who may be forged, where the lookup has not begun, nor does the lookup go on with what there is for them, where it has.
func TestClientJoinsForgersLookup(t *testing.T) {
	for _, c := range []struct {
		name   string
		before int // of the lookups that forgers ask for
		after  int
	}{{"that waits", 40, 20}, {"that is under way", 3, 0}} {
		t.Run(c.name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				config := recursion
				config.QueryRate = 40
				n, stop := startResolverWith(t, s, config, limit.Config{Growth: 1 << 40})
				client := s.client(t, clientAddr(router.IPv4, 0), n.addr)
				token := n.View().Token(client.conn.local.Addr())
				client.send(client.datagram(announce(router.ID{1}, token[:], 9)))
				if r, _ := client.receive(answerTime); r == nil || r.Type != krpc.TypeResponse {
					t.Fatalf("announced: %s", brief(r))
				}
				find := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{99}, HasTarget: true, Recursive: true}
				forge := s.forger(t, n, find)
				for i := range c.before {
					forge(router.ID{byte(4 * i), 1})
				}
				time.Sleep(200 * time.Millisecond) // they use up what there is for who may be forged
				forge(find.Target)
				for i := range c.after {
					forge(router.ID{byte(4 * i), 2})
				}
				time.Sleep(time.Millisecond)
				client.send(client.datagram(find))
				r, took := client.receive(answerTime)
				if counted(n, "joined one under way") != 1 {
					t.Errorf("%d joined", counted(n, "joined one under way"))
				}
				t.Logf("answered within %v: %s", took, brief(r))
				if r == nil || !r.Recursive || took > 2*time.Second {
					t.Errorf("after %v: %s", took, brief(r))
				}
				stop()
			})
		})
	}
}

// A client that gives the proof of its address while it waits has its answer as if it had been proved before, whether it asks again or not: neither does it wait
// for what there is for those who may be forged, where its lookup has not begun, nor does the lookup go on with what there is for them, where it has.
func TestProofIsGivenWhileItWaits(t *testing.T) {
	for _, c := range []struct {
		name   string
		before int // of the lookups that forgers ask for
		after  int
		again  uint64
	}{
		{"in the queue, and asks again", 40, 20, 1}, {"for a lookup under way, and asks again", 3, 0, 1},
		{"in the queue", 40, 20, 0}, {"for a lookup under way", 3, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				config := recursion
				config.QueryRate = 40
				n, stop := startResolverWith(t, s, config, limit.Config{Growth: 1 << 40})
				find := krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{99}, HasTarget: true, Recursive: true}
				forge := s.forger(t, n, find)
				for i := range c.before {
					forge(router.ID{byte(4 * i), 1})
				}
				time.Sleep(200 * time.Millisecond) // they use up what there is for who may be forged
				client := s.client(t, clientAddr(router.IPv4, 0), n.addr)
				query := client.datagram(find)
				client.send(query)
				time.Sleep(150 * time.Millisecond) // it is there
				for i := range c.after {
					forge(router.ID{byte(4 * i), 2})
				}
				if n.Counted() == 0 {
					t.Fatal("nobody waits")
				}
				token := n.View().Token(client.conn.local.Addr())
				client.send(client.datagram(announce(router.ID{1}, token[:], 9)))
				begin := time.Now()
				if c.again > 0 {
					time.Sleep(150 * time.Millisecond) // on the way it and the query after it may change places
					client.send(query)
				}
				var r *krpc.Message
				for time.Since(begin) < answerTime && (r == nil || !r.Recursive) { // there are a ping and the answer to the announce, too
					r, _ = client.receive(answerTime)
				}
				took := time.Since(begin)
				if got := counted(n, "query repeated"); got != c.again {
					t.Errorf("%d repeated", got)
				}
				t.Logf("answered within %v: %s", took, brief(r))
				if r == nil || !r.Recursive || took > 2*time.Second {
					t.Errorf("after %v: %s", took, brief(r))
				}
				time.Sleep(answerTime)
				if got := n.Counted(); got != 0 {
					t.Errorf("%d counted when nothing is under way", got)
				}
				stop()
			})
		})
	}
}

// heldConn is a socket that calls held before it sends a response.
type heldConn struct {
	*simConn
	held func(router.Packet)
}

func (c *heldConn) WriteBatch(ps []router.Packet) (int, error) {
	for _, p := range ps {
		var m krpc.Message
		if krpc.Decode(p.Data, &m) == nil && m.Type == krpc.TypeResponse {
			c.held(p)
		}
	}
	return c.simConn.WriteBatch(ps)
}

// A proof that comes while the answer is on its way, when the recursion is over and no longer counted, changes nothing: neither for the client, who has asked
// again, nor in what is counted for others.
func TestProofComesWhenTheRecursionIsOver(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		fleet := s.startSim(t, 60, router.IPv4)
		time.Sleep(time.Minute)
		conn := &heldConn{simConn: s.listen(simAddr(router.IPv4, 100)), held: func(router.Packet) {}}
		n := s.startOn(t, router.Config{
			Bootstrap: []string{fleet[0].addr.String()}, Recursion: recursion, Limits: limit.Config{Growth: 1 << 40}, Tuning: router.Tuning{QueryRatePerNode: 1000},
		}, newMemStore(), conn)
		time.Sleep(time.Minute)
		client := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		token := n.View().Token(client.conn.local.Addr())
		query := client.datagram(krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{99}, HasTarget: true, Recursive: true})
		proof := client.datagram(announce(router.ID{1}, token[:], 9))
		answers, handled := 0, make(chan bool)
		conn.held = func(p router.Packet) {
			if p.Addr != client.conn.local {
				return
			}
			if answers++; answers > 1 {
				return // to the announce
			}
			for _, b := range [][]byte{proof, query} {
				conn.inbox <- router.Packet{Data: b, Addr: client.conn.local, Local: conn.local.Addr()}
				time.Sleep(100 * time.Millisecond) // of the simulated network: it is handled
			}
			close(handled)
		}
		client.send(query)
		<-handled
		if got := counted(n, "query repeated"); got != 1 {
			t.Errorf("%d repeated", got)
		}
		looked := 0
		for r, _ := client.receive(answerTime); r != nil; r, _ = client.receive(answerTime) {
			if r.Recursive {
				looked++
			}
		}
		if looked != 1 {
			t.Errorf("%d answers", looked)
		}
		if got := n.Counted(); got != 0 {
			t.Errorf("%d counted when nothing is under way", got)
		}
		n.stop()
		stopAll(fleet)
	})
}

// Two clients that never proved their address and ask for more than they may, so that they have all places that there are for such, do not keep a third one
// from having its query looked up. They have some answer to each of theirs in time, too.
func TestClientsWithoutProofShare(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, stop := startResolverWith(t, s, recursion, limit.Config{Growth: 1 << 40})
		find := func(c *rdClient, i int) {
			q := krpc.Message{Method: krpc.MethodFindNode, HasTarget: true, Recursive: true}
			binary.BigEndian.PutUint64(q.Target[:], uint64(i+1)*0x9e3779b97f4a7c15)
			c.send(c.datagram(q))
		}
		modest := s.client(t, clientAddr(router.IPv4, 9), n.addr)
		greedy := []*rdClient{s.client(t, clientAddr(router.IPv4, 0), n.addr), s.client(t, clientAddr(router.IPv4, 1), n.addr)}
		const each = 200
		for i := range each {
			for j, c := range greedy {
				find(c, i*len(greedy)+j)
			}
		}
		begin := time.Now()
		time.Sleep(50 * time.Millisecond)
		find(modest, 1000)
		r, _ := modest.receive(answerTime)
		if r != nil && r.Method == krpc.MethodPing && len(r.TID) == 8 { // there is more for who answers it, but this is not in vain
			r, _ = modest.receive(answerTime)
		}
		if r == nil || r.Type != krpc.TypeResponse || !r.Recursive {
			t.Errorf("who asks once: %s", brief(r))
		}
		time.Sleep(time.Until(begin.Add(answerTime)))
		for i, c := range greedy {
			answered, lookedUp := 0, 0
			for ; len(c.conn.inbox) > 0; answered++ {
				if r, _ := c.receive(answerTime); r.Recursive && r.Type == krpc.TypeResponse {
					lookedUp++
				}
			}
			t.Logf("who asks for much: %d answers to %d queries, %d of them looked up", answered, each, lookedUp)
			if answered < each || lookedUp < 5 {
				t.Errorf("client %d: %d answers to %d queries, %d of them looked up", i, answered, each, lookedUp)
			}
		}
		stop()
	})
}

// Clients that never proved their address, and wait for others or for so long that no lookup would end in time, are asked for a proof, once for each query.
func TestWhoWaitsIsAnsweredInTime(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		c := recursion
		c.QueryRate = 40
		n, stop := startResolverWith(t, s, c, limit.Config{Growth: 1 << 40})
		const each = 20
		var clients []*rdClient
		for i := range 3 {
			client := s.client(t, clientAddr(router.IPv4, i), n.addr)
			for j := range each {
				client.send(client.datagram(krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{byte(12*j + 4*i)}, HasTarget: true, Recursive: true}))
			}
			clients = append(clients, client)
		}
		time.Sleep(answerTime)
		for i, client := range clients {
			challenged, answered := 0, make(map[string]int)
			for len(client.conn.inbox) > 0 {
				if r, _ := client.receive(answerTime); r.Method == krpc.MethodPing && len(r.TID) == 8 {
					challenged++
				} else if answered[string(r.TID)]++; answered[string(r.TID)] > 1 {
					t.Errorf("client %d: another answer: %s", i, brief(r))
				}
			}
			t.Logf("client %d: %d answers to %d queries, asked for a proof %d times", i, len(answered), each, challenged)
			if challenged == 0 || challenged > each || challenged < each-len(answered) {
				t.Errorf("client %d: %d answers to %d queries, asked for a proof %d times", i, len(answered), each, challenged)
			}
		}
		if r, _ := clients[0].receive(answerTime); r != nil {
			t.Errorf("another answer: %s", brief(r))
		}
		stop()
	})
}

// Who may be forged and has no place left is asked for a proof, also where the kernel half has begun what he asks for.
func TestProofIsAskedForWhatTheKernelHalfBegan(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, stop := startResolverWith(t, s, recursion, limit.Config{Growth: 1 << 40})
		greedy := s.client(t, clientAddr(router.IPv4, 0), n.addr)
		for i := range 500 {
			q := krpc.Message{Method: krpc.MethodFindNode, HasTarget: true, Recursive: true}
			binary.BigEndian.PutUint64(q.Target[:], uint64(i+1)*0x9e3779b97f4a7c15)
			greedy.send(greedy.datagram(q))
		}
		time.Sleep(200 * time.Millisecond)
		st := stateOf(greedy, n, router.ID{9})
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		pings := 0
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			switch r, _ := greedy.receive(time.Until(end)); {
			case r == nil:
			case r.Type == krpc.TypeQuery && r.Method == krpc.MethodPing && len(r.TID) == 8:
				pings++
			case string(r.TID) == string(st.TID):
				t.Errorf("answered: %s", brief(r))
			}
		}
		if pings == 0 {
			t.Error("no ping")
		}
		time.Sleep(answerTime)
		stop()
	})
}

// Forgers who send so little that everybody who asks has a place among those who may be forged do not delay others: a client without proof that
// would have to wait for them is asked for it at once, and then has its answer.
func TestSlowForgersDelayNobody(t *testing.T) {
	for _, rate := range []int{12, 20, 25, 32} { // lookups, of which there may be about 20 a second for who may be forged
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			sim(t, func(t *testing.T, s *simNet) {
				n, stop := startResolverWith(t, s, recursion, limit.Config{Growth: 1 << 40})
				forged := 0
				forge := func(length time.Duration) {
					for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second / time.Duration(rate)) {
						forged++
						m := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: []byte("aa"), HasTarget: true, HasID: true, Recursive: true}
						binary.BigEndian.PutUint64(m.Target[:], uint64(forged)*0x9e3779b97f4a7c15)
						b, err := m.Append(nil)
						if err != nil {
							t.Error(err)
							return
						}
						s.deliver(n.addr, router.Packet{Data: b, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(forged >> 8), byte(forged)}), 4000)})
					}
				}
				forge(20 * time.Second)
				done := make(chan bool)
				go func() { forge(20 * time.Second); done <- true }()
				// first is of those who are asked: whose lookup begins at once is not, and shares with the forgers what there is for such.
				asked, first, last := 0, time.Duration(0), time.Duration(0)
				for i := range 10 {
					time.Sleep(time.Second)
					client := s.client(t, clientAddr(router.IPv4, i), n.addr)
					q := client.datagram(krpc.Message{Method: krpc.MethodFindNode, Target: router.ID{byte(25*i + 1)}, HasTarget: true, Recursive: true})
					begin := time.Now()
					client.send(q)
					r, took := client.receive(answerTime)
					if r != nil && r.Method == krpc.MethodPing && len(r.TID) == 8 {
						asked++
						first = max(first, took)
						b, err := (&krpc.Message{Type: krpc.TypeResponse, TID: r.TID, HasID: true}).Append(nil)
						if err != nil {
							t.Fatal(err)
						}
						client.send(b)
						time.Sleep(150 * time.Millisecond) // on the way it and the query after it may change places
						client.send(q)
						r, _ = client.receive(answerTime)
					}
					last = max(last, time.Since(begin))
					if r == nil || r.Type != krpc.TypeResponse || !r.Recursive {
						t.Errorf("client %d: %s", i, brief(r))
					}
				}
				t.Logf("%d of 10 asked for a proof, within %v; the answer within %v", asked, first, last)
				if first > time.Second || last > 2*time.Second || rate >= 25 && asked < 5 {
					t.Errorf("%d of 10 asked for a proof, within %v; the answer within %v", asked, first, last)
				}
				<-done
				stop()
			})
		})
	}
}
