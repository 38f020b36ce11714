package router_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// remote is a node of another make: a function answers its queries, or keeps silent by returning nil.
type remote struct {
	net    *simNet
	conn   *simConn
	answer func(q *krpc.Message, r *krpc.Message) *krpc.Message

	mu    sync.Mutex
	id    router.ID
	heard []krpc.Method // of the queries that came
}

// remote runs one until the test ends.
func (s *simNet) remote(t *testing.T, a netip.AddrPort, id router.ID, answer func(q, r *krpc.Message) *krpc.Message) *remote {
	t.Helper()
	m := &remote{net: s, conn: s.listen(a), id: id, answer: answer}
	go m.run()
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

func (m *remote) run() {
	ps := []router.Packet{{Data: make([]byte, 2048)}}
	for {
		if _, err := m.conn.ReadBatch(ps); errors.Is(err, net.ErrClosed) {
			return
		}
		var q krpc.Message
		if krpc.Decode(ps[0].Data, &q) != nil || q.Type != krpc.TypeQuery {
			continue
		}
		m.mu.Lock()
		m.heard = append(m.heard, q.Method)
		m.mu.Unlock()
		r := m.answer(&q, &krpc.Message{Type: krpc.TypeResponse, TID: q.TID, ID: m.contact().ID, HasID: true})
		if r == nil {
			continue
		}
		b, err := r.Append(nil)
		if err != nil {
			panic(err)
		}
		m.net.send(m.conn, ps[0].Addr, b)
	}
}

func (m *remote) contact() router.Contact {
	m.mu.Lock()
	defer m.mu.Unlock()
	return router.Contact{ID: m.id, Addr: m.conn.local}
}

func (m *remote) setID(id router.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = id
}

// times returns how many queries of a method came.
func (m *remote) times(method krpc.Method) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.heard {
		if h == method {
			n++
		}
	}
	return n
}

// published tells whether a node hands a contact out.
func published(n *simNode, c router.Contact) bool {
	want := [26]byte(krpc.AppendNode(nil, c.ID, c.Addr))
	return slices.Contains(n.View().Snapshot().Nodes4, want)
}

// Nodes that do not know BEP 44 are silent when asked with get (Transmission, aria2) or answer with an error
// (rTorrent). They are none the worse as contacts, and those who refer to them do not lie.
func TestNodesWithoutGetStayContacts(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0))
		var others []*remote
		for i := range 6 {
			a := simAddr(router.IPv4, 10+i)
			m := s.remote(t, a, krpc.NodeIDFor(a.Addr(), byte(i), anyID()), func(q, r *krpc.Message) *krpc.Message {
				switch {
				case q.Method != krpc.MethodGet:
					return r
				case i%2 == 0:
					return nil
				}
				return &krpc.Message{Type: krpc.TypeError, TID: q.TID, Err: krpc.Error{Code: krpc.ErrCodeMethod, Text: "method unknown"}}
			})
			others = append(others, m)
			if _, err := n.Ping(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			_, _ = n.GetImmutable(t.Context(), router.ID{byte(i)})
			time.Sleep(8 * time.Second) // no query waits any more
			for _, m := range others {
				if m.times(krpc.MethodGet) == 0 || !published(n, m.contact()) {
					t.Fatalf("lookup %d: %v, asked %d times, is handed out: %t", i, m.conn.local, m.times(krpc.MethodGet), published(n, m.contact()))
				}
			}
		}
		// One that has died is found out all the same.
		_ = others[0].conn.Close()
		for i := range 3 {
			_, _ = n.GetImmutable(t.Context(), router.ID{byte(i)})
			time.Sleep(20 * time.Second)
		}
		if published(n, others[0].contact()) {
			t.Error("a dead node is handed out")
		}
		n.stop()
		for _, m := range others {
			_ = m.conn.Close()
		}
	})
}

// A contact whose ID is zero is none. A lookup that took it for one whose ID is not known would ask it first.
func TestContactsWithoutIDAreNotAsked(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0))
		a := simAddr(router.IPv4, 10)
		m := s.remote(t, a, krpc.NodeIDFor(a.Addr(), 1, anyID()), func(_, r *krpc.Message) *krpc.Message {
			for i := range 20 {
				r.Nodes = krpc.AppendNode(r.Nodes, router.ID{}, simAddr(router.IPv4, 100+i))
			}
			return r
		})
		if _, err := n.Ping(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if r, err := n.FindNode(t.Context(), router.ID{1}); err != nil || r.Stats.Queried != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		n.stop()
		_ = m.conn.Close()
	})
}

// A node that is far away is not sent more for being slow: libtorrent ignores who sends 50 datagrams in ten seconds.
func TestSlowNodesAreNotPestered(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0))
		reply := func(m **remote, delay time.Duration) func(q, r *krpc.Message) *krpc.Message {
			return func(q, r *krpc.Message) *krpc.Message {
				b, err := r.Append(nil)
				if err != nil {
					panic(err)
				}
				time.AfterFunc(delay, func() { s.send((*m).conn, n.addr, b) })
				return nil
			}
		}
		var all []*remote
		for i := range 6 {
			delay := time.Duration(0)
			if i == 0 {
				delay = 900 * time.Millisecond
			}
			m, a := new(remote), simAddr(router.IPv4, 10+i)
			*m = remote{net: s, conn: s.listen(a), id: krpc.NodeIDFor(a.Addr(), byte(i), anyID())}
			m.answer = reply(&m, delay)
			all = append(all, m)
			go m.run()
			if _, err := n.Ping(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		var sent []time.Time
		s.mu.Lock()
		s.tap = func(from, to netip.AddrPort, _ []byte) {
			if from == n.addr && to == all[0].conn.local {
				sent = append(sent, time.Now())
			}
		}
		s.mu.Unlock()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() { _, _ = n.FindNode(t.Context(), router.ID{byte(i)}) })
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		most := 0
		s.mu.Lock()
		s.tap = nil
		for i, a := range sent {
			k := 0
			for _, b := range sent[i:] {
				if b.Sub(a) < 10*time.Second {
					k++
				}
			}
			most = max(most, k)
		}
		s.mu.Unlock()
		if t.Logf("%d datagrams, at most %d in ten seconds", len(sent), most); most > 45 || most < 10 {
			t.Errorf("%d datagrams in ten seconds", most)
		}
		n.stop()
		for _, m := range all {
			_ = m.conn.Close()
		}
	})
}
