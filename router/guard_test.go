package router_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// wire counts what a node sends to somebody, and keeps the last datagram.
type wire struct {
	t    *testing.T
	s    *simNet
	conn *simConn
	to   netip.AddrPort
}

// ask sends a datagram and returns what comes back within a second; nil if nothing does.
func (w *wire) ask(b []byte) []byte {
	w.t.Helper()
	w.s.send(w.conn, w.to, b)
	select {
	case p := <-w.conn.inbox:
		return p.Data
	case <-time.After(time.Second):
		return nil
	}
}

// message encodes a query.
func message(t *testing.T, m krpc.Message) []byte {
	t.Helper()
	m.Type, m.TID, m.HasID, m.ID = krpc.TypeQuery, []byte("aa"), true, router.ID{1}
	m.ReadOnly = true // no pings in between
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A sender who sends too many datagrams is not answered, whatever they are, until he has paused; others are, and so are exempt ones.
func TestSourceLimit(t *testing.T) {
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		sim(t, func(t *testing.T, s *simNet) {
			exempt := netip.PrefixFrom(simAddr(f, 9).Addr(), 24)
			if f == router.IPv6 {
				exempt = netip.PrefixFrom(simAddr(f, 9).Addr(), 64)
			}
			n := s.start(t, router.Config{Limits: limit.Config{Rate: 0.5, Burst: 5, Exempt: []netip.Prefix{exempt}}}, newMemStore(), simAddr(f, 0))
			time.Sleep(time.Second)
			ping := message(t, krpc.Message{Method: krpc.MethodPing})
			answers := func(i, tries int) (k int) {
				w := &wire{t, s, s.listen(simAddr(f, i)), n.addr}
				for range tries {
					s.send(w.conn, w.to, ping)
				}
				time.Sleep(time.Second)
				for len(w.conn.inbox) > 0 {
					<-w.conn.inbox
					k++
				}
				return k
			}
			if got := answers(1, 50); got != 5 {
				t.Errorf("%v: %d answers, want 5", f, got)
			}
			time.Sleep(9 * time.Second) // 10 since the burst: 5 tokens
			if got := answers(1, 50); got != 5 {
				t.Errorf("%v: %d answers after a pause, want 5", f, got)
			}
			if got := answers(2, 3); got != 3 {
				t.Errorf("%v: %d answers to somebody else, want 3", f, got)
			}
			if got := answers(9, 50); got != 50 {
				t.Errorf("%v: %d answers to an exempt sender, want 50", f, got)
			}
			if got := counter(n.Stats(), "drop", "too many from its source"); got != 90 {
				t.Errorf("%v: %d drops counted, want 90", f, got)
			}
		})
	}
}

// Once the budget is used up, nobody gets more bytes than he sent who has not proved his address; who answers the
// challenge, or shows a token, does.
func TestNoAmplification(t *testing.T) {
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		sim(t, func(t *testing.T, s *simNet) {
			st := newMemStore()
			const budget = 2000
			n := s.start(t, router.Config{Limits: limit.Config{Growth: budget}}, st, simAddr(f, 0))
			item := bytes.Repeat([]byte("x"), 900)
			v := append([]byte("900:"), item...)
			target := krpc.ImmutableTarget(v)
			if err := st.PutItem(&store.Item{Target: target, V: v, Own: true, Updated: time.Now()}, nil, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			queries := [][]byte{
				message(t, krpc.Message{Method: krpc.MethodPing}),
				message(t, krpc.Message{Method: krpc.MethodFindNode, HasTarget: true}),
				message(t, krpc.Message{Method: krpc.MethodGet, HasTarget: true, Target: target}),
				message(t, krpc.Message{Method: krpc.MethodGet, HasTarget: true}),
				message(t, krpc.Message{Method: krpc.MethodGetPeers, HasInfoHash: true, Scrape: true}),
				message(t, krpc.Message{Method: krpc.MethodSampleInfohashes, HasTarget: true}),
				[]byte("d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe"), // an error message is longer
				[]byte("d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe"),
			}
			victim := &wire{t, s, s.listen(simAddr(f, 1)), n.addr}
			sent, got := 0, 0
			begin := time.Now()
			for range 40 {
				for _, q := range queries {
					s.send(victim.conn, n.addr, q)
					sent += len(q)
				}
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Second)
			for len(victim.conn.inbox) > 0 {
				got += len((<-victim.conn.inbox).Data)
			}
			bound := sent + budget + int(budget*time.Since(begin).Seconds())
			t.Logf("%v: %d bytes for %d, bound %d", f, got, sent, bound)
			if got > bound {
				t.Errorf("%v: %d bytes for %d", f, got, sent)
			}

			spend := func() { // what has come back of the budget meanwhile
				other := &wire{t, s, s.listen(simAddr(f, 2)), n.addr}
				for range 100 {
					s.send(other.conn, n.addr, queries[2])
				}
				time.Sleep(300 * time.Millisecond)
			}
			spend()
			client := &wire{t, s, s.listen(simAddr(f, 3)), n.addr}
			first := client.ask(queries[2])
			var m krpc.Message
			if err := krpc.Decode(first, &m); err != nil || m.Type != krpc.TypeQuery || m.Method != krpc.MethodPing || len(first) > len(queries[2]) {
				t.Fatalf("%v: no challenge: %q, %v", f, first, err)
			}
			r := krpc.Message{Type: krpc.TypeResponse, TID: bytes.Clone(m.TID), HasID: true, ID: router.ID{1}}
			b, err := r.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.send(client.conn, n.addr, b)
			time.Sleep(time.Second)
			spend()
			if got := client.ask(queries[2]); !bytes.Contains(got, item) {
				t.Errorf("%v: who proved his address got %q", f, got)
			}
			if got := counter(n.Stats(), "unproven source", "proven"); got != 1 {
				t.Errorf("%v: %d proofs", f, got)
			}

			writer := &wire{t, s, s.listen(simAddr(f, 4)), n.addr}
			token := n.View().Token(simAddr(f, 4).Addr())
			writer.ask(message(t, krpc.Message{Method: krpc.MethodPut, V: []byte("1:x"), Token: token[:]}))
			spend()
			if got := writer.ask(queries[2]); !bytes.Contains(got, item) {
				t.Errorf("%v: who showed a token got %q", f, got)
			}
		})
	}
}

// The kernel half hears of queries that are sent, and of those who answered.
func TestKernelHearsOfProofs(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		k := &fakeKernel{held: map[[20]byte]bool{}}
		s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 1))
		n := s.start(t, router.Config{Bootstrap: []string{simAddr(router.IPv4, 1).String()}}, newMemStore(), simAddr(router.IPv4, 0))
		if err := n.SetKernel(k); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		again := &fakeKernel{held: map[[20]byte]bool{}}
		if err := n.SetKernel(again); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		want := simAddr(router.IPv4, 1).Addr()
		if len(k.expected) == 0 || k.expected[0] != want || len(k.proven) == 0 || k.proven[0] != want {
			t.Errorf("expected %v, proven %v", k.expected, k.proven)
		}
		if len(again.proven) != 1 || again.proven[0] != want {
			t.Errorf("a new kernel half was told that %v are proven", again.proven)
		}
	})
}

// Who has proved his address, as every contact has, is not sent much more in his name by others either: long replies are taken out of what
// one source may have.
func TestNoAmplificationTowardsProven(t *testing.T) {
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		sim(t, func(t *testing.T, s *simNet) {
			st := newMemStore()
			const burst = 40
			n := s.start(t, router.Config{Limits: limit.Config{Rate: 1, Burst: burst, Growth: 1 << 20}}, st, simAddr(f, 0))
			v := append([]byte("900:"), bytes.Repeat([]byte("x"), 900)...)
			target := krpc.ImmutableTarget(v)
			if err := st.PutItem(&store.Item{Target: target, V: v, Own: true, Updated: time.Now()}, nil, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			victim := &wire{t, s, s.listen(simAddr(f, 1)), n.addr}
			token := n.View().Token(simAddr(f, 1).Addr())
			victim.ask(message(t, krpc.Message{Method: krpc.MethodPut, V: []byte("1:x"), Token: token[:]}))
			query := message(t, krpc.Message{Method: krpc.MethodGet, HasTarget: true, Target: target})
			begin, sent, got, whole := time.Now(), 0, 0, 0
			for range 200 {
				s.send(victim.conn, n.addr, query)
				sent += len(query)
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Second)
			for len(victim.conn.inbox) > 0 {
				b := (<-victim.conn.inbox).Data
				got += len(b)
				if len(b) > len(v) {
					whole++
				}
			}
			bound := sent + limit.FreeGrowth*(burst+2+int(time.Since(begin).Seconds()))
			t.Logf("%v: %d bytes for %d, %d whole replies, bound %d", f, got, sent, whole, bound)
			if got > bound || whole == 0 {
				t.Errorf("%v: %d bytes for %d, %d whole replies", f, got, sent, whole)
			}
			time.Sleep(time.Minute)
			if got := victim.ask(query); !bytes.Contains(got, v) {
				t.Errorf("%v: after a pause, got %q", f, got)
			}
		})
	}
}

// A node that only asks proves its address to nodes that are flooded, which it asks: it stores and finds as fast as ever. It answers the pings of nobody else.
func TestClientOnlyProvesItsAddress(t *testing.T) {
	for _, f := range []router.Family{router.IPv4, router.IPv6} {
		sim(t, func(t *testing.T, s *simNet) {
			s.config.Limits = limit.Config{Growth: 1} // replies that are longer than their queries are for proven sources alone
			fleet := s.startSim(t, 30, f)
			time.Sleep(time.Minute)
			client := s.start(t, router.Config{Bootstrap: []string{fleet[0].addr.String()}, ReadOnly: true}, nil, simAddr(f, 200))
			time.Sleep(10 * time.Second)
			begin := time.Now()
			put, err := client.PutImmutable(t.Context(), []byte("3:abc"))
			if err != nil || len(put.Stored) < 6 {
				t.Errorf("%v: put: %+v, %v", f, put, err)
			}
			other := s.start(t, router.Config{Bootstrap: []string{fleet[3].addr.String()}, ReadOnly: true}, nil, simAddr(f, 201))
			time.Sleep(10 * time.Second)
			begun := time.Now()
			got, err := other.GetImmutable(t.Context(), put.Target)
			if err != nil {
				t.Errorf("%v: get: %v", f, err)
			}
			t.Logf("%v: put within %v, %d nodes have it; found within %v, %+v", f, begun.Add(-10*time.Second).Sub(begin), len(put.Stored), time.Since(begun), got.Stats)
			if counter(client.Stats(), "query answered", "ping") == 0 {
				t.Errorf("%v: nobody has asked for a proof", f)
			}
			dropped := counter(client.Stats(), "drop", "query to a read-only node")
			w := &wire{t, s, s.listen(simAddr(f, 202)), client.addr}
			if b := w.ask(message(t, krpc.Message{Method: krpc.MethodPing})); b != nil {
				t.Errorf("%v: a ping of a stranger: %q", f, b)
			}
			if got := counter(client.Stats(), "drop", "query to a read-only node"); got != dropped+1 {
				t.Errorf("%v: %d pings dropped, want 1", f, got-dropped)
			}
			other.stop()
			client.stop()
			stopAll(fleet)
		})
	}
}
