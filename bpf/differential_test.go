package bpf_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"kdht/bpf"
	"kdht/router"
	"kdht/router/krpc"
)

// userSpace is what the node answers to a payload when it holds nothing: the datagram, or nil if it says nothing or
// something that is not the kernel's to say, such as an error.
func userSpace(t testing.TB, v *router.View, payload []byte, from netip.AddrPort) []byte {
	t.Helper()
	var m krpc.Message
	if krpc.Decode(payload, &m) != nil {
		return nil
	}
	out, ok := v.Answer(nil, &m, from)
	if !ok {
		return nil
	}
	return out
}

// compare runs a query in the kernel and in user space and fails unless the kernel's reply frame is the same byte for
// byte, or the frame passed as it was. It returns whether the kernel answered.
func compare(t testing.TB, p *bpf.Program, v *router.View, d datagram) bool {
	t.Helper()
	frame := d.frame(t)
	verdict, out := run(t, p, frame)
	switch verdict {
	case xdpPass:
		if !bytes.Equal(out, frame) {
			t.Fatalf("passed, but changed\nfrom %x\n  to %x", frame, out)
		}
		return false
	case xdpTX:
	default:
		t.Fatalf("verdict %d for %q", verdict, d.payload)
	}
	payload := userSpace(t, v, d.payload, d.from)
	if payload == nil {
		t.Fatalf("the kernel answers what user space does not: %q", d.payload)
	}
	if want := d.answer(payload).frame(t); !bytes.Equal(out, want) {
		t.Fatalf("reply to %q\n got %q\nwant %q", d.payload, out, want)
	}
	return true
}

func view(t testing.TB, s *bpf.Snapshot) *router.View {
	t.Helper()
	v, err := router.NewView(s)
	must(t, err)
	return v
}

// TestDifferential compares the halves on generated tables and queries. Canonical queries must be answered.
func TestDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	n := pairs(t, 100000)
	kinds := map[krpc.Method]int{}
	for done := 0; done < n; {
		size := r.IntN(60)
		if r.IntN(3) == 0 {
			size = r.IntN(2000)
		}
		s := snapshot(r, size, r.IntN(size+1))
		p, v := program(t, s), view(t, s)
		for range 500 {
			m, payload := query(r, s)
			d := datagramFor(r, payload)
			if !compare(t, p, v, d) {
				t.Fatalf("not answered: %q", payload)
			}
			kinds[m]++
			done++
		}
	}
	t.Logf("%d pairs, all answered: %v", n, kinds)
}

// query returns a canonical query that the kernel answers, as some client or other might send it.
func query(r *rand.Rand, s *bpf.Snapshot) (krpc.Method, []byte) {
	m := krpc.Message{Type: krpc.TypeQuery, ID: randomID(r), HasID: true}
	m.Method = []krpc.Method{krpc.MethodPing, krpc.MethodFindNode, krpc.MethodGetPeers, krpc.MethodGet}[r.IntN(4)]
	m.TID = make([]byte, 1+r.IntN(4))
	if r.IntN(4) == 0 {
		m.TID = make([]byte, 1+r.IntN(20))
	}
	for i := range m.TID {
		m.TID[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		m.Version = []byte("LT\x02\x08")[:4-r.IntN(8)/7]
	}
	if r.IntN(4) == 0 {
		m.HasReadOnly, m.ReadOnly = true, r.IntN(2) == 0
	}
	if r.IntN(8) == 0 {
		m.IP = node4
	}
	switch m.Method {
	case krpc.MethodFindNode:
		m.Target, m.HasTarget = target(r, s), true
	case krpc.MethodGetPeers:
		m.InfoHash, m.HasInfoHash = target(r, s), true
		if r.IntN(3) == 0 {
			m.HasNoSeed, m.NoSeed = true, r.IntN(2) == 0
		}
		if r.IntN(3) == 0 {
			m.HasScrape, m.Scrape = true, r.IntN(2) == 0
		}
	case krpc.MethodGet:
		m.Target, m.HasTarget = target(r, s), true
		if r.IntN(3) == 0 {
			m.HasSeq, m.Seq = true, r.Int64N(1<<r.IntN(59))
		}
	}
	if m.Method != krpc.MethodPing {
		m.Want = krpc.Want(r.IntN(4))
	}
	out, err := m.Append(nil)
	if err != nil {
		panic(err)
	}
	return m.Method, out
}

// datagramFor puts a payload into a datagram from a random address.
func datagramFor(r *rand.Rand, payload []byte) datagram {
	to, from := node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(r.Uint32()), byte(2 + r.IntN(250))}), 0)
	if r.IntN(2) == 0 {
		a := netip.MustParseAddr("2001:db8::").As16()
		for i := 4; i < 16; i++ {
			a[i] = byte(r.Uint32())
		}
		to, from = node6, netip.AddrPortFrom(netip.AddrFrom16(a), 0)
	}
	d := queryTo(to, netip.AddrPortFrom(from.Addr(), uint16(1+r.IntN(65535))), payload)
	if r.IntN(8) == 0 {
		d.vlans = []uint16{uint16(r.IntN(4096))}
	}
	return d
}

// example is one datagram of the collection that router/krpc tests its codec with.
type example struct {
	ID, Kind, Hex string
	Canonical     bool
	Decoded       struct {
		Q string
		T string // hex
	}
}

// examples reads the collection: from KDHT_VECTORS, where the tests run outside the repository.
func examples(t testing.TB) (all []example) {
	t.Helper()
	path := os.Getenv("KDHT_VECTORS")
	if path == "" {
		path = "../router/krpc/testdata/vectors.json"
	}
	b, err := os.ReadFile(path)
	must(t, err)
	var v struct {
		Datagrams, Replies []example
		Tolerance          struct{ Cases []example } `json:"parser_tolerance"`
	}
	must(t, json.Unmarshal(b, &v))
	return append(append(v.Datagrams, v.Replies...), v.Tolerance.Cases...)
}

// TestExamples compares the halves on the datagrams of real clients. Those that are canonical queries must be answered.
func TestExamples(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(3, 1)), 300, 100)
	p, v := program(t, s), view(t, s)
	ours := map[string]bool{"ping": true, "find_node": true, "get_peers": true, "get": true}
	answered, passed := 0, 0
	for _, e := range examples(t) {
		if e.Hex == "" {
			continue
		}
		payload, err := hex.DecodeString(e.Hex)
		must(t, err)
		want := e.Canonical && ours[e.Decoded.Q] && len(e.Decoded.T) > 0 && len(e.Decoded.T) <= 40
		for _, d := range []datagram{queryTo(node4, asker4, payload), queryTo(node6, asker6, payload)} {
			got := compare(t, p, v, d)
			if want && !got {
				t.Errorf("%s is not answered: %q", e.ID, payload)
			}
			if got {
				answered++
			} else {
				passed++
			}
		}
	}
	t.Logf("%d answered, %d passed", answered, passed)
	if answered < 80 {
		t.Errorf("only %s examples were answered", strconv.Itoa(answered))
	}
}
