package router_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

var (
	asker4 = netip.MustParseAddrPort("198.18.7.9:6881")
	asker6 = netip.MustParseAddrPort("[2001:db8:0:7::9]:51413")
)

// replyBySpecification writes the reply format down once more, without regard to speed.
func replyBySpecification(t testing.TB, s *bpf.Snapshot, m *krpc.Message, from netip.AddrPort) []byte {
	v, err := router.NewView(s)
	if err != nil {
		t.Fatal(err)
	}
	str := func(b []byte) string { return fmt.Sprintf("%d:%s", len(b), b) }
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	self, want := s.ID4, m.Want
	if from.Addr().Is6() {
		self = s.ID6
		if want == 0 {
			want = krpc.WantN6
		}
	} else if want == 0 {
		want = krpc.WantN4
	}
	ip := binary.BigEndian.AppendUint16(from.Addr().AsSlice(), from.Port())
	out := "d2:ip" + str(ip) + "1:rd2:id" + str(self[:])
	target, token := m.Target, m.Method == krpc.MethodGet
	if m.Method == krpc.MethodGetPeers {
		target, token = m.InfoHash, true
	}
	if m.Method != krpc.MethodPing {
		if want&krpc.WantN4 != 0 {
			self, table := rows(s, router.IPv4)
			out += "5:nodes" + str(closestBySorting(s.Bits, self, target, table))
		}
		if want&krpc.WantN6 != 0 {
			self, table := rows(s, router.IPv6)
			out += "6:nodes6" + str(closestBySorting(s.Bits, self, target, table))
		}
	}
	if token {
		tok := v.Token(from.Addr())
		out += "5:token" + str(tok[:])
	}
	return []byte(out + "e1:t" + str(m.TID) + "1:v" + str([]byte("KD\x00\x01")) + "1:y1:re")
}

func query(r *rand.Rand, s *bpf.Snapshot, method krpc.Method) *krpc.Message {
	self, table := rows(s, router.Family(r.IntN(2)))
	m := &krpc.Message{Type: krpc.TypeQuery, Method: method, ID: randomID(r), HasID: true, Want: krpc.Want(r.IntN(4))}
	m.TID = make([]byte, r.IntN(21))
	for i := range m.TID {
		m.TID[i] = byte(r.Uint32())
	}
	switch method {
	case krpc.MethodFindNode, krpc.MethodGet, krpc.MethodUnknown:
		m.Target, m.HasTarget = targetFor(r, self, table), true
	case krpc.MethodGetPeers:
		m.InfoHash, m.HasInfoHash = targetFor(r, self, table), true
	}
	return m
}

var answered = []krpc.Method{krpc.MethodPing, krpc.MethodFindNode, krpc.MethodGetPeers, krpc.MethodGet, krpc.MethodUnknown}

func TestAnswerBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	mapped := netip.AddrPortFrom(netip.AddrFrom16(asker4.Addr().As16()), asker4.Port())
	for range 300 {
		s := randomSnapshot(r, 1+r.IntN(bpf.MaxBits), r.IntN(200))
		v, err := router.NewView(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []netip.AddrPort{asker4, asker6, mapped} {
			for _, method := range answered {
				m := query(r, s, method)
				want := replyBySpecification(t, s, m, from)
				got, ok := v.Answer([]byte("before"), m, from)
				if !ok || string(got) != "before"+string(want) {
					t.Fatalf("%v from %v:\n got %q\nwant %q", method, from, got, want)
				}
				var back krpc.Message
				if err := krpc.Decode(want, &back); err != nil {
					t.Fatalf("reply %q: %v", want, err)
				}
				again, err := back.Append(nil)
				if err != nil || !bytes.Equal(again, want) {
					t.Fatalf("the codec writes the reply as %q, %v; want %q", again, err, want)
				}
			}
		}
	}
}

// The layout for one table written out by hand, so that the other tests cannot drift together.
func TestAnswerExample(t *testing.T) {
	s := &bpf.Snapshot{ID4: router.ID([]byte("aaaaaaaaaaaaaaaaaaaa")), ID6: router.ID([]byte("bbbbbbbbbbbbbbbbbbbb"))}
	s.Nodes4 = [][26]byte{[26]byte([]byte("cccccccccccccccccccc\xc6\x12\x00\x01\x1a\xe1"))}
	for i := range s.Secret {
		s.Secret[i] = byte(i)
	}
	v, err := router.NewView(s)
	if err != nil {
		t.Fatal(err)
	}
	target := router.ID([]byte("mnopqrstuvwxyz123456"))
	from := netip.MustParseAddrPort("0.1.2.3:258")
	for _, c := range []struct {
		m    krpc.Message
		from netip.AddrPort
		want string
	}{
		{
			krpc.Message{Method: krpc.MethodPing, TID: []byte("pn")}, from,
			"d2:ip6:\x00\x01\x02\x03\x01\x021:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t2:pn1:v4:KD\x00\x011:y1:re",
		},
		{
			krpc.Message{Method: krpc.MethodFindNode, TID: []byte("abcdefghij"), Target: target, HasTarget: true, Want: krpc.WantN4 | krpc.WantN6}, from,
			"d2:ip6:\x00\x01\x02\x03\x01\x021:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes26:cccccccccccccccccccc\xc6\x12\x00\x01\x1a\xe16:nodes60:" +
				"e1:t10:abcdefghij1:v4:KD\x00\x011:y1:re",
		},
		{
			krpc.Message{Method: krpc.MethodGetPeers, TID: []byte{}, InfoHash: target, HasInfoHash: true}, from,
			"d2:ip6:\x00\x01\x02\x03\x01\x021:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes26:cccccccccccccccccccc\xc6\x12\x00\x01\x1a\xe1" +
				"5:token8:\xb7\x87\x71\x27\xe0\x94\x27\xcfe1:t0:1:v4:KD\x00\x011:y1:re",
		},
		{
			krpc.Message{Method: krpc.MethodGet, TID: []byte("x"), Target: target, HasTarget: true}, netip.MustParseAddrPort("[1:203:405:607:809:a0b:c0d:e0f]:1"),
			"d2:ip18:\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x00\x011:rd2:id20:bbbbbbbbbbbbbbbbbbbb6:nodes60:" +
				"5:token8:\xdb\x9b\xc2\x57\x7f\xcc\x2a\x3fe1:t1:x1:v4:KD\x00\x011:y1:re",
		},
	} {
		c.m.Type, c.m.HasID = krpc.TypeQuery, true
		if got, ok := v.Answer(nil, &c.m, c.from); !ok || string(got) != c.want {
			t.Errorf("%v:\n got %q, %v\nwant %q", c.m.Method, got, ok, c.want)
		}
	}
}

func TestAnswerLeavesTheRest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	s := fullSnapshot(r, 150)
	v, err := router.NewView(s)
	if err != nil {
		t.Fatal(err)
	}
	good := func() krpc.Message {
		return krpc.Message{
			Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: []byte("aa"), HasID: true,
			HasTarget: true, HasInfoHash: true, Want: krpc.WantN4 | krpc.WantN6,
		}
	}
	for why, change := range map[string]func(*krpc.Message){
		"a response":               func(m *krpc.Message) { m.Type = krpc.TypeResponse },
		"an error":                 func(m *krpc.Message) { m.Type = krpc.TypeError },
		"no ID":                    func(m *krpc.Message) { m.HasID = false },
		"find_node without target": func(m *krpc.Message) { m.HasTarget = false },
		"get without target":       func(m *krpc.Message) { m.Method, m.HasTarget = krpc.MethodGet, false },
		"unknown without target":   func(m *krpc.Message) { m.Method, m.HasTarget = krpc.MethodUnknown, false },
		"get_peers, no info_hash":  func(m *krpc.Message) { m.Method, m.HasInfoHash = krpc.MethodGetPeers, false },
		"put":                      func(m *krpc.Message) { m.Method = krpc.MethodPut },
		"announce_peer":            func(m *krpc.Message) { m.Method = krpc.MethodAnnouncePeer },
		"sample_infohashes":        func(m *krpc.Message) { m.Method = krpc.MethodSampleInfohashes },
		"no method":                func(m *krpc.Message) { m.Method = krpc.MethodNone },
		"a reply over 1,024 bytes": func(m *krpc.Message) { m.TID = make([]byte, 500) },
	} {
		m := good()
		if _, ok := v.Answer(nil, &m, asker6); !ok {
			t.Fatal("the good query was not answered")
		}
		change(&m)
		if got, ok := v.Answer([]byte("before"), &m, asker6); ok || string(got) != "before" {
			t.Errorf("%s: %q, %v; want no answer", why, got, ok)
		}
	}
	m := good()
	m.TID = make([]byte, krpc.MaxTID)
	if got, ok := v.Answer(nil, &m, asker6); !ok || len(got) > krpc.MaxPayload {
		t.Errorf("the longest transaction ID: %d bytes, %v", len(got), ok)
	}
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	s := fullSnapshot(r, 150)
	v, err := router.NewView(s)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	for _, method := range answered {
		m := query(r, s, method)
		for _, from := range []netip.AddrPort{asker4, asker6} {
			if n := testing.AllocsPerRun(100, func() { buf, _ = v.Answer(buf[:0], m, from) }); n != 0 {
				t.Errorf("%v from %v: %v allocations", method, from, n)
			}
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"), uint64(1), uint16(100), true)
	f.Add([]byte("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe"), uint64(2), uint16(1280), false)
	f.Add([]byte("d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe"), uint64(3), uint16(8), true)
	f.Add([]byte("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q3:get1:t0:1:y1:qe"), uint64(4), uint16(0), false)
	f.Fuzz(func(t *testing.T, datagram []byte, seed uint64, n uint16, over4 bool) {
		var m krpc.Message
		if krpc.Decode(datagram, &m) != nil {
			return
		}
		s := randomSnapshot(rand.New(rand.NewPCG(seed, 4)), 1+int(seed%bpf.MaxBits), int(n)%1281)
		v, err := router.NewView(s)
		if err != nil {
			t.Fatal(err)
		}
		from := asker6
		if over4 {
			from = asker4
		}
		got, ok := v.Answer(nil, &m, from)
		if !ok {
			return
		}
		if want := replyBySpecification(t, s, &m, from); !bytes.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 5))
	v, err := router.NewView(fullSnapshot(r, 160))
	if err != nil {
		b.Fatal(err)
	}
	for _, method := range answered {
		for _, from := range []netip.AddrPort{asker4, asker6} {
			b.Run(fmt.Sprintf("%v/%v", method, router.FamilyOf(from.Addr())), func(b *testing.B) {
				queries := make([]krpc.Message, 1024)
				for i := range queries {
					queries[i] = krpc.Message{
						Type: krpc.TypeQuery, Method: method, TID: []byte("aa"), HasID: true,
						Target: randomID(r), HasTarget: true, InfoHash: randomID(r), HasInfoHash: true,
					}
				}
				buf := make([]byte, 0, 1024)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					buf, _ = v.Answer(buf[:0], &queries[i%len(queries)], from)
					i++
				}
			})
		}
	}
}
