package krpc_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kdht/router/krpc"
)

func TestAppend(t *testing.T) {
	id := krpc.ID([]byte(id20))
	v4, v6 := netip.MustParseAddrPort("1.2.3.4:6881"), netip.MustParseAddrPort("[2001:db8::1]:6881")
	version := []byte(krpc.Version)
	for name, c := range map[string]struct {
		m    krpc.Message
		want string
	}{
		"ping": {
			krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), HasID: true, ID: id},
			"d1:ad2:id20:" + id20 + "e1:q4:ping1:t2:aa1:y1:qe",
		},
		"reply of a node over IPv4": {
			krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("aa"), HasID: true, ID: id, IP: v4, Version: version,
				Nodes: krpc.AppendNode(nil, id, v4), Token: []byte("12345678"),
			},
			"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:" + id20 + "5:nodes26:" + id20 + "\x01\x02\x03\x04\x1a\xe1" +
				"5:token8:12345678e1:t2:aa1:v4:KD\x00\x011:y1:re",
		},
		"reply of a node over IPv6, no transaction ID": {
			krpc.Message{
				Type: krpc.TypeResponse, HasID: true, ID: id, IP: v6, Version: version,
				Nodes: []byte{}, Nodes6: krpc.AppendNode(nil, id, v6),
			},
			"d2:ip18:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe11:rd2:id20:" + id20 + "5:nodes0:" +
				"6:nodes638:" + id20 + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1e1:t0:1:v4:KD\x00\x011:y1:re",
		},
		"mapped address": {
			krpc.Message{Type: krpc.TypeResponse, HasID: true, ID: id, IP: netip.MustParseAddrPort("[::ffff:1.2.3.4]:6881")},
			"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:" + id20 + "e1:t0:1:y1:re",
		},
		"error": {
			krpc.Message{Type: krpc.TypeError, TID: []byte("aa"), Err: *krpc.ErrSeq, IP: v4},
			"d1:eli302e11:seq too olde2:ip6:\x01\x02\x03\x04\x1a\xe11:t2:aa1:y1:ee",
		},
		"get_peers": {
			krpc.Message{
				Type: krpc.TypeQuery, Method: krpc.MethodGetPeers, TID: []byte("aa"), HasID: true, ID: id, ReadOnly: true,
				HasInfoHash: true, InfoHash: id, NoSeed: true, Scrape: true, Want: krpc.WantN4 | krpc.WantN6,
			},
			"d1:ad2:id20:" + id20 + "9:info_hash20:" + id20 + "6:noseedi1e6:scrapei1e4:wantl2:n42:n6ee1:q9:get_peers2:roi1e1:t2:aa1:y1:qe",
		},
		"announce_peer": {
			krpc.Message{
				Type: krpc.TypeQuery, Method: krpc.MethodAnnouncePeer, TID: []byte("aa"), HasID: true, ID: id,
				HasInfoHash: true, InfoHash: id, Port: 6881, HasImpliedPort: true, HasSeed: true, Token: []byte("tok"),
			},
			"d1:ad2:id20:" + id20 + "12:implied_porti0e9:info_hash20:" + id20 + "4:porti6881e4:seedi0e5:token3:toke" +
				"1:q13:announce_peer1:t2:aa1:y1:qe",
		},
		"recursive get": {
			krpc.Message{
				Type: krpc.TypeQuery, Method: krpc.MethodGet, TID: []byte("aa"), HasID: true, ID: id,
				HasTarget: true, Target: id, Salt: []byte("s"), Recursive: true, ReadOnly: true, Version: version,
			},
			"d1:ad2:id20:" + id20 + "4:salt1:s6:target20:" + id20 + "e1:q3:get2:rdi1e2:roi1e1:t2:aa1:v4:KD\x00\x011:y1:qe",
		},
		"recursion came to no end": {
			krpc.Message{Type: krpc.TypeResponse, TID: []byte("aa"), HasID: true, ID: id, HasRecursive: true, IP: v4},
			"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:" + id20 + "e2:rdi0e1:t2:aa1:y1:re",
		},
		"stored by recursion": {
			krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("aa"), HasID: true, ID: id, Recursive: true, Samples: []byte{}, Token: []byte{},
				HasStored: true, Stored: 8, HasSeq: true, Seq: 3,
			},
			"d1:rd2:id20:" + id20 + "7:samples0:3:seqi3e6:storedi8e5:token0:e2:rdi1e1:t2:aa1:y1:re",
		},
		"other method": {
			krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodUnknown, Name: []byte("vote"), TID: []byte("aa"), HasID: true, ID: id},
			"d1:ad2:id20:" + id20 + "e1:q4:vote1:t2:aa1:y1:qe",
		},
		"peers": {
			krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("aa"), HasID: true, ID: id,
				Values: krpc.AppendPeer(krpc.AppendPeer(nil, v4), v6),
			},
			"d1:rd2:id20:" + id20 + "6:valuesl6:\x01\x02\x03\x04\x1a\xe118:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1ee1:t2:aa1:y1:re",
		},
		"sample": {
			krpc.Message{
				Type: krpc.TypeResponse, TID: []byte("aa"), HasID: true, ID: id,
				HasInterval: true, Interval: 21600, HasNum: true, Samples: []byte{},
			},
			"d1:rd2:id20:" + id20 + "8:intervali21600e3:numi0e7:samples0:e1:t2:aa1:y1:re",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := c.m.Append([]byte("before"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("before"+c.want, string(out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := krpc.CheckValue(out[len("before"):]); err != nil {
				t.Errorf("not canonical: %v", err)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, HasID: true}
	r := krpc.Message{Type: krpc.TypeResponse, HasID: true}
	for name, c := range map[string]struct {
		m      krpc.Message
		change func(*krpc.Message)
	}{
		"no type":             {q, func(m *krpc.Message) { m.Type = 0 }},
		"other type":          {q, func(m *krpc.Message) { m.Type = 'x' }},
		"no method":           {q, func(m *krpc.Message) { m.Method = krpc.MethodNone }},
		"method out of range": {q, func(m *krpc.Message) { m.Method = 99 }},
		"method without name": {q, func(m *krpc.Message) { m.Method = krpc.MethodUnknown }},
		"query without id":    {q, func(m *krpc.Message) { m.HasID = false }},
		"response without id": {r, func(m *krpc.Message) { m.HasID = false }},
		"k":                   {q, func(m *krpc.Message) { m.K = make([]byte, 31) }},
		"sig":                 {r, func(m *krpc.Message) { m.Sig = make([]byte, 65) }},
		"v not bencoded":      {q, func(m *krpc.Message) { m.V = []byte("hello") }},
		"v empty":             {q, func(m *krpc.Message) { m.V = []byte{} }},
		"v injects a key":     {r, func(m *krpc.Message) { m.V = []byte("1:xe1:t0:") }},
		"v not canonical":     {r, func(m *krpc.Message) { m.V = []byte("d1:b0:1:a0:e") }},
		"nodes":               {r, func(m *krpc.Message) { m.Nodes = make([]byte, 27) }},
		"nodes6":              {r, func(m *krpc.Message) { m.Nodes6 = make([]byte, 26) }},
		"samples":             {r, func(m *krpc.Message) { m.Samples = make([]byte, 19) }},
		"BFsd":                {r, func(m *krpc.Message) { m.BFSeeds = make([]byte, 255) }},
		"BFpe":                {r, func(m *krpc.Message) { m.BFPeers = make([]byte, 257) }},
		"interval":            {r, func(m *krpc.Message) { m.HasInterval, m.Interval = true, 21601 }},
		"stored":              {r, func(m *krpc.Message) { m.HasStored, m.Stored = true, -1 }},
		"num":                 {r, func(m *krpc.Message) { m.HasNum, m.Num = true, -1 }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.m.Append(nil); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			c.change(&c.m)
			out, err := c.m.Append([]byte("before"))
			if !errors.Is(err, krpc.ErrInvalid) || string(out) != "before" {
				t.Errorf("appended %q, error %v", out, err)
			}
		})
	}
}

// A maximal BEP 44 put and its reply can be sent and read.
func TestLargest(t *testing.T) {
	m := krpc.Message{
		Type: krpc.TypeQuery, Method: krpc.MethodPut, TID: []byte("aa"), HasID: true, Token: make([]byte, 20),
		K: make([]byte, 32), Sig: make([]byte, 64), Salt: make([]byte, 64), HasSeq: true, Seq: 1<<63 - 1, HasCAS: true, CAS: 1<<63 - 1,
		V: []byte("996:" + strings.Repeat("x", 996)),
	}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got krpc.Message
	if err := krpc.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	m.Name = []byte("put")
	if diff := diffMessages(&m, &got); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
}

func TestCompactForms(t *testing.T) {
	id1, id2 := krpc.ID([]byte(id20)), krpc.ID([]byte(target20))
	for _, addrs := range [][2]string{{"1.2.3.4:1", "255.255.255.255:65535"}, {"[::1]:1", "[2001:db8::ff]:65535"}} {
		a, b := netip.MustParseAddrPort(addrs[0]), netip.MustParseAddrPort(addrs[1])
		nodes := krpc.AppendNode(krpc.AppendNode(nil, id1, a), id2, b)
		each := krpc.Nodes
		if a.Addr().Is6() {
			each = krpc.Nodes6
		}
		var again []byte
		n := 0
		for id, addr := range each(append(nodes, "stray"...)) {
			again = krpc.AppendNode(again, id, addr)
			n++
		}
		if n != 2 || !bytes.Equal(again, nodes) {
			t.Errorf("%v: %d contacts, again %x, want %x", addrs, n, again, nodes)
		}
		for range each(nodes) {
			break // an iterator must survive that
		}
		for _, x := range []netip.AddrPort{a, b} {
			if got, ok := krpc.AddrFrom(krpc.AppendAddr(nil, x)); !ok || got != x {
				t.Errorf("%v came back as %v", x, got)
			}
		}
	}
	var samples []krpc.ID
	for id := range krpc.Samples([]byte(id20 + target20 + "stray")) {
		samples = append(samples, id)
	}
	if diff := cmp.Diff([]krpc.ID{id1, id2}, samples); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	for range krpc.Samples([]byte(id20 + target20)) {
		break
	}
	for _, n := range []int{0, 4, 5, 7, 16, 17, 19} {
		if a, ok := krpc.AddrFrom(make([]byte, n)); ok || a.IsValid() {
			t.Errorf("%d bytes read as the address %v", n, a)
		}
	}
	// A contact hidden behind an IPv4-mapped address stays recognisable.
	mapped := netip.AddrFrom16(netip.MustParseAddr("1.2.3.4").As16())
	raw := append(append(id1[:], mapped.AsSlice()...), 0, 1)
	for _, a := range krpc.Nodes6(raw) {
		if !a.Addr().Is4In6() {
			t.Errorf("mapped address read as %v", a)
		}
	}
}

func TestIDText(t *testing.T) {
	const s = "000102030405060708090a0b0c0d0e0f10111213"
	id, err := krpc.ParseID(strings.ToUpper(s))
	if err != nil || id.String() != s || id.IsZero() || !(krpc.ID{}).IsZero() {
		t.Errorf("ParseID(%q) = %v, %v", s, id, err)
	}
	text, _ := id.MarshalText()
	var again krpc.ID
	if err := again.UnmarshalText(text); err != nil || again != id {
		t.Errorf("%s came back as %v, %v", text, again, err)
	}
	for _, bad := range []string{"", s[2:], s + "00", "x" + s[1:]} {
		if _, err := krpc.ParseID(bad); err == nil {
			t.Errorf("ParseID accepts %q", bad)
		}
		if err := again.UnmarshalText([]byte(bad)); err == nil || again != id {
			t.Errorf("UnmarshalText(%q): %v, left %v", bad, err, again)
		}
	}
}

func TestNames(t *testing.T) {
	for m := range krpc.Method(krpc.Methods) {
		if m.String() == "" || strings.ToLower(m.String()) != m.String() {
			t.Errorf("method %d is called %q", m, m)
		}
	}
	if krpc.Method(200).String() != "unknown" || krpc.Type('x').String() != "unknown" || krpc.TypeError.String() != "error" ||
		krpc.TypeQuery.String() != "query" || krpc.TypeResponse.String() != "response" {
		t.Error("names of types or methods")
	}
	if got := krpc.ErrSeq.Error(); got != `KRPC error 302: "seq too old"` {
		t.Errorf("error text %s", got)
	}
}
