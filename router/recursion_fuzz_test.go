package router_test

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// FuzzRecursion has a client send a node any query, whose only contact gives any answer, which also is what the kernel
// half hands over. The client gets at most one answer, and in it nothing that is not verified; nothing is kept for good.
func FuzzRecursion(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	it := signedItem(key, "", "3:one", 1)
	value := []byte("5:hello")
	reply := func(change func(*krpc.Message)) []byte {
		m := krpc.Message{Type: krpc.TypeResponse, TID: []byte("aaaa"), HasID: true, ID: router.ID{1}, Token: []byte("token"), Nodes: []byte{}}
		change(&m)
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	replies := [][]byte{
		reply(func(m *krpc.Message) { m.V = value }),
		reply(func(m *krpc.Message) { m.V, m.K, m.Sig, m.Seq, m.HasSeq = it.V, it.K[:], it.Sig[:], it.Seq, true }),
		reply(func(m *krpc.Message) { m.V, m.K, m.Sig, m.Seq, m.HasSeq = it.V, it.K[:], it.Sig[:], 2, true }),
		reply(func(m *krpc.Message) { m.Values = krpc.AppendPeer(nil, simAddr(router.IPv6, 9)) }),
		reply(func(m *krpc.Message) { m.Nodes = krpc.AppendNode(nil, router.ID{2}, simAddr(router.IPv4, 9)) }),
		[]byte("d1:eli301e3:case1:t4:aaaa1:y1:ee"),
	}
	for i, m := range []krpc.Message{
		getItem(krpc.ImmutableTarget(value)), getItem(it.Target), getItem(it.Target), getPeers(router.ID{3}),
		{Method: krpc.MethodFindNode, Target: router.ID{3}, HasTarget: true, Want: krpc.WantN4 | krpc.WantN6},
		recursivePut(it, 5), recursivePut(router.Item{V: value}), announce(router.ID{3}, nil, 7),
	} {
		m.Type, m.TID, m.HasID, m.Recursive = krpc.TypeQuery, []byte("aaaa"), true, true
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, replies[min(i, len(replies)-1)])
	}
	f.Fuzz(func(t *testing.T, query, reply []byte) {
		if len(query) > 2000 || len(reply) > 2000 {
			return // no datagram that anybody reads as a whole
		}
		synctest.Test(t, func(t *testing.T) { fuzzRecursion(t, query, reply) })
	})
}

func fuzzRecursion(t *testing.T, query, reply []byte) {
	s := newSimNet(1)
	c := router.Config{Recursion: router.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
	n := s.start(t, c, newMemStore(), simAddr(router.IPv4, 0))
	a := simAddr(router.IPv4, 1)
	m := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(_, r *krpc.Message) *krpc.Message { return r })
	if _, err := n.Ping(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	tid := append([]byte("1:t4:"), "aaaa"...)
	forged := &simConn{net: s, local: a}
	s.tapQueries(func(from, to netip.AddrPort, q *krpc.Message) {
		if from == n.addr && to == a && q.Method != krpc.MethodPing {
			b := bytes.Replace(reply, tid, append([]byte("1:t4:"), q.TID...), 1)
			time.AfterFunc(time.Millisecond, func() { s.send(forged, n.addr, b) })
		}
	})
	client := s.listen(clientAddr(router.IPv4, 0))
	defer client.Close() //nolint:errcheck // there is none
	s.send(client, n.addr, query)
	time.Sleep(20 * time.Second)
	var q krpc.Message
	asked := krpc.Decode(query, &q) == nil && q.Type == krpc.TypeQuery
	answers := drain(t, client, &q)
	if asked && answers != 1 || answers > 1 {
		t.Errorf("%d answers to %q", answers, query)
	}
	if asked && (q.Method == krpc.MethodGet || q.Method == krpc.MethodGetPeers || q.Method == krpc.MethodFindNode) {
		st := router.RecursionState{
			Client: client.local, TID: q.TID, Method: q.Method, Target: q.Target, Want: q.Want, Seq: q.Seq, HasSeq: q.HasSeq, Started: time.Now(),
			Asked: []router.AskedNode{{Contact: m.contact(), Answered: true}}, Candidates: []router.Contact{{ID: q.ID, Addr: a}}, Reply: reply, ReplyFrom: a,
		}
		if q.Method == krpc.MethodGetPeers {
			st.Target = q.InfoHash
		}
		if err := n.Resume(st); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if answers := drain(t, client, &q); answers != 1 {
			t.Errorf("%d answers to %q resumed with %q", answers, query, reply)
		}
	}
	// A query may be under way, to see whether the contact is still there.
	if got := n.Stats(); got.Lookups > 1 || got.InFlight > 4 || got.Recursion.UnderWay != 0 {
		t.Errorf("%d lookups, %d queries and %d recursions under way", got.Lookups, got.InFlight, got.Recursion.UnderWay)
	}
	_ = m.conn.Close()
	n.stop()
}

// drain counts the answers that came, and checks what is in them.
func drain(t *testing.T, c *simConn, q *krpc.Message) (n int) {
	t.Helper()
	for {
		select {
		case p := <-c.inbox:
			var r krpc.Message
			if err := krpc.Decode(p.Data, &r); err != nil {
				t.Errorf("%q: %v", p.Data, err)
			}
			if r.Type == krpc.TypeQuery {
				continue // the node is curious about the asker
			}
			n++
			if r.V != nil && krpc.ImmutableTarget(r.V) != q.Target && (r.K == nil || krpc.MutableTarget(r.K, q.Salt) != q.Target || !krpc.Verify(r.K, q.Salt, r.Seq, r.V, r.Sig)) {
				t.Errorf("a forged value: %q", p.Data)
			}
		default:
			return n
		}
	}
}
