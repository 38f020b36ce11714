package router_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kdht/router"
	"kdht/router/krpc"
)

// floodNode is a node whose socket is fed by the test.
func floodNode(t *testing.T) (*simNet, *simNode) {
	t.Helper()
	s := newSimNet(1)
	n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0), simAddr(router.IPv6, 0))
	return s, n
}

// FuzzNode sends a node any datagrams from changing sources. Nothing may make it panic, send to others more than it
// should, or keep anything for good.
func FuzzNode(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b, uint32(1))
	}
	id := router.ID{1}
	for _, m := range []krpc.Message{
		{Type: krpc.TypeQuery, Method: krpc.MethodPing},
		{Type: krpc.TypeQuery, Method: krpc.MethodFindNode, HasTarget: true, Want: krpc.WantN4 | krpc.WantN6},
		{Type: krpc.TypeQuery, Method: krpc.MethodGetPeers, HasInfoHash: true, Scrape: true},
		{Type: krpc.TypeQuery, Method: krpc.MethodGet, HasTarget: true},
		{Type: krpc.TypeQuery, Method: krpc.MethodSampleInfohashes, HasTarget: true},
		{Type: krpc.TypeQuery, Method: krpc.MethodAnnouncePeer, HasInfoHash: true, Port: 1, Token: []byte("12345678")},
		{Type: krpc.TypeQuery, Method: krpc.MethodPut, V: []byte("1:x"), Token: []byte("12345678")},
		{Type: krpc.TypeResponse, Nodes: krpc.AppendNode(nil, id, simAddr(router.IPv4, 7)), IP: simAddr(router.IPv4, 0)},
	} {
		m.TID, m.ID, m.HasID = []byte("aaaa"), id, true
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint32(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, source uint32) {
		synctest.Test(t, func(t *testing.T) {
			s, n := floodNode(t)
			token := n.View().Token(simAddr(router.IPv4, 1).Addr())
			for i := range 4 {
				var from [4]byte
				binary.BigEndian.PutUint32(from[:], source+uint32(i))
				for _, to := range []*simConn{s.conns[simAddr(router.IPv4, 0)], s.conns[simAddr(router.IPv6, 0)]} {
					a := netip.AddrPortFrom(netip.AddrFrom4(from), uint16(source))
					if to.local.Addr().Is6() {
						a = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 12: from[0], from[1], from[2], from[3]}), uint16(source))
					}
					if i == 3 { // once with a token that is good
						a = simAddr(router.IPv4, 1)
						b = slices.Clone(b) // the one before is still being read
						if at := indexToken(b); at > 0 {
							copy(b[at:], token[:])
						}
					}
					to.inbox <- router.Packet{Data: b, Addr: a}
				}
			}
			time.Sleep(10 * time.Second)
			if got := n.Stats(); got.InFlight != 0 {
				t.Errorf("%d queries under way", got.InFlight)
			}
			for _, f := range n.Stats().Families {
				if f.Contacts != 0 {
					t.Errorf("%d contacts that never answered", f.Contacts)
				}
			}
			n.stop()
		})
	})
}

// recorded returns the datagrams that were recorded from real programs.
func recorded(f *testing.F) (all [][]byte) {
	f.Helper()
	text, err := os.ReadFile("krpc/testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"hex": "([0-9a-f]+)"`).FindAllSubmatch(text, -1) {
		b, err := hex.DecodeString(string(m[1]))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b)
	}
	if len(all) < 100 {
		f.Fatalf("only %d datagrams", len(all))
	}
	return all
}

// FuzzAnswers gives a node any answers to the queries that it sends in each of its operations.
func FuzzAnswers(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	id := router.ID{1}
	key := testKey()
	it := signed(key, "", "1:x", 1)
	for _, m := range []krpc.Message{
		{Nodes: krpc.AppendNode(nil, id, simAddr(router.IPv4, 1)), Token: []byte("t")},
		{Nodes: krpc.AppendNode(nil, id, simAddr(router.IPv4, 2)), Nodes6: krpc.AppendNode(nil, id, simAddr(router.IPv6, 1)), IP: simAddr(router.IPv4, 9)},
		{V: it.V, K: it.K[:], Sig: it.Sig[:], Seq: 1, HasSeq: true, Token: []byte("t")},
		{Values: krpc.AppendPeer(nil, simAddr(router.IPv4, 1)), BFSeeds: make([]byte, 256), BFPeers: make([]byte, 256), Token: []byte{}},
	} {
		m.Type, m.TID, m.ID, m.HasID = krpc.TypeResponse, []byte("aaaa"), id, true
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := newSimNet(1)
			remotes := []netip.AddrPort{simAddr(router.IPv4, 1), simAddr(router.IPv4, 2), simAddr(router.IPv6, 1)}
			var bootstrap []string
			for _, a := range remotes {
				conn := s.listen(a)
				bootstrap = append(bootstrap, a.String())
				go answerAll(s, conn, b)
				defer func() { _ = conn.Close() }()
			}
			n := s.start(t, router.Config{Bootstrap: bootstrap}, newMemStore(), simAddr(router.IPv4, 0), simAddr(router.IPv6, 0))
			ctx := t.Context()
			if got, err := n.GetMutable(ctx, it.K, nil); err == nil && !krpc.Verify(it.K[:], nil, got.Item.Seq, got.Item.V, got.Item.Sig[:]) {
				t.Errorf("accepted %+v", got)
			}
			if got, err := n.GetImmutable(ctx, id); err == nil && krpc.ImmutableTarget(got.Item.V) != id {
				t.Errorf("accepted %+v", got)
			}
			_, _ = n.Peers(ctx, id, router.WithScrape())
			_, _ = n.Announce(ctx, id, 1, true, router.Keep())
			_, _ = n.PutMutable(ctx, it, nil, router.Keep())
			_, _ = n.Ping(ctx, remotes[0])
			time.Sleep(20 * time.Minute)
			if got := n.Stats(); got.Lookups > 4 || got.InFlight > 64 {
				t.Errorf("%+v", got)
			}
			n.stop()
		})
	})
}

// answerAll answers every query with the same bytes, but for the transaction ID.
func answerAll(s *simNet, conn *simConn, b []byte) {
	ps := []router.Packet{{Data: make([]byte, 2048)}}
	for {
		if _, err := conn.ReadBatch(ps); err != nil {
			return
		}
		var m, r krpc.Message
		if krpc.Decode(ps[0].Data, &m) != nil || m.Type != krpc.TypeQuery {
			continue
		}
		out := slices.Clone(b)
		if krpc.Decode(b, &r) == nil && r.Type != krpc.TypeQuery {
			r.TID = m.TID
			if again, err := r.Append(nil); err == nil {
				out = again
			}
		} else if at := bytes.LastIndex(out, []byte("1:t")); at >= 0 { // keep whatever is odd about it
			out = slices.Concat(out[:at], []byte("1:t4:"), m.TID, out[min(len(out), at+len("1:t4:aaaa")):])
		}
		s.send(conn, ps[0].Addr, out)
	}
}

// indexToken returns where the 8 bytes of a token are in a datagram; 0 if there is none.
func indexToken(b []byte) int {
	const key = "5:token8:"
	for i := range max(0, len(b)-len(key)-8) {
		if string(b[i:i+len(key)]) == key {
			return i + len(key)
		}
	}
	return 0
}

// A flood of queries from ever new senders costs neither goroutines nor memory, and makes the node ask few of them.
func TestFloodFromManySources(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n := s.start(t, router.Config{}, newMemStore(), simAddr(router.IPv4, 0))
		token := n.View().Token(netip.AddrFrom4([4]byte{198, 19, 0, 1}))
		message := func(method krpc.Method, i int) []byte {
			m := krpc.Message{Type: krpc.TypeQuery, Method: method, TID: []byte("aa"), HasID: true, HasTarget: true, HasInfoHash: true, Token: token[:], Port: 9, V: []byte("1:x")}
			binary.BigEndian.PutUint64(m.ID[:], uint64(i)*0x9e3779b97f4a7c15)
			binary.BigEndian.PutUint64(m.InfoHash[:], uint64(i))
			b, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		time.Sleep(time.Second)
		var queries atomic.Int64
		s.tapQueries(func(_, _ netip.AddrPort, _ *krpc.Message) { queries.Add(1) })
		goroutines := runtime.NumGoroutine()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		most := 0
		methods := []krpc.Method{krpc.MethodPing, krpc.MethodFindNode, krpc.MethodGetPeers, krpc.MethodAnnouncePeer, krpc.MethodPut, krpc.MethodSampleInfohashes}
		const packets = 60000
		for i := range packets {
			from := netip.AddrFrom4([4]byte{7, byte(i >> 16), byte(i >> 8), byte(i)})
			s.deliver(n.addr, router.Packet{Data: message(methods[i%len(methods)], i), Addr: netip.AddrPortFrom(from, 6881)})
			if i%1000 == 0 {
				time.Sleep(20 * time.Millisecond)
				most = max(most, runtime.NumGoroutine())
			}
		}
		t.Logf("%d queries sent because of %d; %d goroutines at most, %d before", queries.Load(), packets, most, goroutines)
		if most > goroutines+600 {
			t.Errorf("%d goroutines", most)
		}
		if queries.Load() > 1000 {
			t.Errorf("%d queries to senders that may be forged", queries.Load())
		}
		time.Sleep(time.Minute)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("%d bytes more on the heap", grown)
		}
		if got := n.Stats(); got.InFlight != 0 || got.Families[0].Contacts != 0 {
			t.Errorf("%+v", got)
		}
		n.stop()
	})
}
