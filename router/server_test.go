package router_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// asker is a bare UDP client of one node.
type asker struct {
	t    *testing.T
	conn *net.UDPConn
	id   router.ID
	n    int
}

func newAsker(t *testing.T, from string, to netip.AddrPort) *asker {
	t.Helper()
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)), net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &asker{t: t, conn: conn, id: router.ID{0xaa, 0xbb}}
}

// addr is where the answers go.
func (a *asker) addr() netip.AddrPort { return a.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// send sends raw bytes.
func (a *asker) send(b []byte) {
	a.t.Helper()
	if _, err := a.conn.Write(b); err != nil {
		a.t.Fatal(err)
	}
}

// receive returns the next datagram; nil if there is none in time.
func (a *asker) receive(wait time.Duration) []byte {
	a.t.Helper()
	b := make([]byte, 4096)
	_ = a.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		n, err := a.conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			a.t.Fatal(err)
		}
		var m krpc.Message
		if krpc.Decode(b[:n], &m) == nil && m.Type == krpc.TypeQuery {
			continue // the node is curious about the asker
		}
		return b[:n]
	}
}

// ask sends a query and returns the answer, checked for what every answer must have.
func (a *asker) ask(m krpc.Message) *krpc.Message {
	a.t.Helper()
	a.n++
	m.Type, m.TID = krpc.TypeQuery, fmt.Appendf(nil, "q%d", a.n)
	m.ID, m.HasID = a.id, true
	b, err := m.Append(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	a.send(b)
	return a.answer(m.TID)
}

func (a *asker) answer(tid []byte) *krpc.Message {
	a.t.Helper()
	b := a.receive(5 * time.Second)
	if b == nil {
		a.t.Fatal("no answer")
	}
	r := new(krpc.Message)
	if err := krpc.Decode(b, r); err != nil {
		a.t.Fatalf("%q: %v", b, err)
	}
	if again, err := r.Append(nil); err != nil || !bytes.Equal(again, b) {
		a.t.Errorf("not canonical: %q", b)
	}
	if !bytes.Equal(r.TID, tid) || r.IP != a.addr() || string(r.Version) != krpc.Version {
		a.t.Errorf("answer to %q has tid %q, ip %v, v %q", tid, r.TID, r.IP, r.Version)
	}
	if r.V == nil && len(b) > krpc.MaxPayload {
		a.t.Errorf("%d bytes", len(b))
	}
	return r
}

// wantError asks and expects an error.
func (a *asker) wantError(what string, code int, m krpc.Message) {
	a.t.Helper()
	r := a.ask(m)
	if r.Type != krpc.TypeError || r.Err.Code != code || r.Err.Text == "" {
		a.t.Errorf("%s: answered %v %+v, want error %d", what, r.Type, r.Err, code)
	}
}

// wantDone asks and expects a response.
func (a *asker) wantDone(what string, m krpc.Message) *krpc.Message {
	a.t.Helper()
	r := a.ask(m)
	if r.Type != krpc.TypeResponse {
		a.t.Fatalf("%s: answered %v %+v", what, r.Type, r.Err)
	}
	return r
}

func getItem(target router.ID) krpc.Message {
	return krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}
}

func getPeers(infohash router.ID) krpc.Message {
	return krpc.Message{Method: krpc.MethodGetPeers, InfoHash: infohash, HasInfoHash: true}
}

func announce(infohash router.ID, token []byte, port uint16) krpc.Message {
	return krpc.Message{Method: krpc.MethodAnnouncePeer, InfoHash: infohash, HasInfoHash: true, Token: token, Port: port, HasPort: true}
}

func putItem(it router.Item, token []byte) krpc.Message {
	m := krpc.Message{Method: krpc.MethodPut, V: it.V, Token: token}
	if it.Mutable {
		m.K, m.Sig, m.Seq, m.HasSeq = it.K[:], it.Sig[:], it.Seq, true
		if len(it.Salt) > 0 {
			m.Salt = it.Salt
		}
	}
	return m
}

func TestServerItems(t *testing.T) {
	for name, from := range map[string][2]string{"IPv4": {"127.11.0.1:0", "127.11.0.2:0"}, "IPv6": {"[::1]:0", "[::1]:0"}} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, t.TempDir(), router.Config{}, from[0])
			a := newAsker(t, from[1], n.addr)
			key := testKey()
			v1 := signed(key, "", "3:one", 10)
			target := krpc.MutableTarget(v1.K[:], nil)
			token := bytes.Clone(a.wantDone("get of nothing", getItem(target)).Token)
			if len(token) != 8 {
				t.Fatalf("token %x", token)
			}

			a.wantError("forged token", 203, putItem(v1, []byte("forgedxx")))
			a.wantError("empty token", 203, putItem(v1, []byte{}))
			other := newAsker(t, strings.Replace(from[1], "127.11.0.2", "127.11.0.3", 1), n.addr)
			if name == "IPv4" {
				other.wantError("token of another address", 203, putItem(v1, token))
			}
			bad := v1
			bad.Sig[5] ^= 1
			a.wantError("bad signature", 206, putItem(bad, token))
			a.wantError("long salt", 207, putItem(signed(key, strings.Repeat("s", 65), "3:one", 1), token))
			a.wantError("long value", 205, putItem(router.Item{V: fmt.Appendf(nil, "997:%0997d", 0)}, token))
			a.wantError("negative seq", 203, putItem(signed(key, "", "3:one", -1), token))
			a.send([]byte("d1:ad2:id20:" + string(a.id[:]) + "5:token8:" + string(token) + "1:vd1:b0:1:a0:ee1:q3:put1:t1:x1:y1:qe"))
			if r := a.answer([]byte("x")); r.Type != krpc.TypeError || r.Err.Code != 203 {
				t.Errorf("value that is not canonical: %+v", r.Err)
			}
			if r := a.wantDone("get after refusals", getItem(target)); r.V != nil || r.HasSeq {
				t.Error("a refused put was stored")
			}

			a.wantDone("put", putItem(v1, token))
			a.wantDone("same again", putItem(v1, token))
			a.wantError("same seq, other value", 302, putItem(signed(key, "", "3:two", 10), token))
			a.wantError("older seq", 302, putItem(signed(key, "", "3:two", 9), token))
			m := putItem(signed(key, "", "3:two", 11), token)
			m.CAS, m.HasCAS = 9, true
			a.wantError("cas", 301, m)
			m.CAS = 10
			a.wantDone("cas", m)

			r := a.wantDone("get", getItem(target))
			if string(r.V) != "3:two" || r.Seq != 11 || !bytes.Equal(r.K, v1.K[:]) || !krpc.Verify(r.K, nil, r.Seq, r.V, r.Sig) || r.Token == nil {
				t.Errorf("get: %+v", r)
			}
			for seq, full := range map[int64]bool{10: true, 11: false, 12: false} {
				m := getItem(target)
				m.Seq, m.HasSeq = seq, true
				r := a.wantDone("get with seq", m)
				if (r.V != nil) != full || (r.K != nil) != full || (r.Sig != nil) != full || !r.HasSeq || r.Seq != 11 || r.Token == nil {
					t.Errorf("get with seq %d: %+v", seq, r)
				}
			}

			big := router.Item{V: fmt.Appendf(nil, "996:%0996d", 0)}
			a.wantDone("largest value", putItem(big, token))
			m = getItem(krpc.ImmutableTarget(big.V))
			m.Want = krpc.WantN4 | krpc.WantN6
			if r := a.wantDone("get of the largest", m); !bytes.Equal(r.V, big.V) || r.HasSeq || r.K != nil {
				t.Errorf("get of the largest value: %+v", r)
			}
		})
	}
}

func TestServerPeers(t *testing.T) {
	for name, from := range map[string][2]string{"IPv4": {"127.12.0.1:0", "127.12.0.2:0"}, "IPv6": {"[::1]:0", "[::1]:0"}} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, t.TempDir(), router.Config{}, from[0])
			a := newAsker(t, from[1], n.addr)
			infohash := router.ID{5, 6, 7}
			r := a.wantDone("get_peers of nothing", getPeers(infohash))
			if r.Values != nil || r.Token == nil {
				t.Errorf("get_peers of nothing: %+v", r)
			}
			token := bytes.Clone(r.Token)
			a.wantError("forged token", 203, announce(infohash, []byte("forgedxx"), 1000))
			a.wantError("port 0", 203, announce(infohash, token, 0))
			for port := uint16(1000); port < 1120; port++ {
				m := announce(infohash, token, port)
				m.Seed = port%2 == 1
				a.wantDone("announce", m)
			}
			implied := announce(infohash, token, 0)
			implied.ImpliedPort = true
			a.wantDone("implied port", implied)
			both := getPeers(infohash)
			both.Want = krpc.WantN4 | krpc.WantN6
			for _, m := range []krpc.Message{getPeers(infohash), both} {
				r := a.wantDone("get_peers", m)
				count := 0
				for p := range krpc.Peers(r.Values) {
					if count++; p.Addr() != a.addr().Addr() {
						t.Errorf("peer %v", p)
					}
				}
				if count < 30 || r.Token == nil || r.Nodes == nil && r.Nodes6 == nil {
					t.Errorf("%d peers: %+v", count, r)
				}
			}
			noSeed := getPeers(infohash)
			noSeed.NoSeed = true
			for p := range krpc.Peers(a.wantDone("noseed", noSeed).Values) {
				if p.Port()%2 == 1 && p != a.addr() {
					t.Errorf("%v is a seed", p)
				}
			}
			scrape := both
			scrape.Scrape = true
			r = a.wantDone("scrape", scrape)
			for what, f := range map[string][]byte{"seeds": r.BFSeeds, "downloaders": r.BFPeers} {
				if len(f) != 256 {
					t.Fatalf("filter of %s: %d bytes", what, len(f))
				}
				if got := (*krpc.BloomFilter)(f).Estimate(); got < 0.9 || got > 1.1 { // one address
					t.Errorf("%v %s", got, what)
				}
			}
			sample := krpc.Message{Method: krpc.MethodSampleInfohashes, Target: router.ID{1}, HasTarget: true}
			r = a.wantDone("sample_infohashes", sample)
			if !bytes.Equal(r.Samples, infohash[:]) || r.Num != 1 || !r.HasInterval || r.Interval <= 0 || r.Interval > krpc.MaxInterval {
				t.Errorf("sample: %+v", r)
			}
			for i := range 30 {
				a.wantDone("announce", announce(router.ID{byte(i)}, token, 1))
			}
			again := a.wantDone("sample_infohashes", sample)
			if !bytes.Equal(again.Samples, r.Samples) {
				t.Error("the sample changed within the interval")
			}
		})
	}
}

// What a quota refuses is refused with its reason, and the rest goes on.
func TestServerQuotas(t *testing.T) {
	st := openStore(t, t.TempDir(), store.Options{MaxItems: 2, MaxPeersPerInfohash: 2, MaxInfohashes: 1})
	n := startNode(t, "", router.Config{Store: st}, "127.17.0.1:0")
	a := newAsker(t, "127.17.0.2:0", n.addr)
	token := bytes.Clone(a.wantDone("get", getItem(router.ID{1})).Token)
	for i, code := range []int{0, 0, krpc.ErrCodeServer} {
		r := a.ask(putItem(router.Item{V: fmt.Appendf(nil, "i%de", i)}, token))
		if r.Err.Code != code || code != 0 && !strings.Contains(r.Err.Text, "quota") {
			t.Errorf("put %d: %+v", i, r.Err)
		}
		r = a.ask(announce(router.ID{1}, token, uint16(i+1)))
		if r.Err.Code != code || code != 0 && !strings.Contains(r.Err.Text, "quota") {
			t.Errorf("announce %d: %+v", i, r.Err)
		}
	}
	a.wantError("another infohash", krpc.ErrCodeServer, announce(router.ID{2}, token, 1))
	a.wantDone("same item again", putItem(router.Item{V: []byte("i0e")}, token))
	a.wantDone("same peer again", announce(router.ID{1}, token, 1))
}

func TestServerWithoutStore(t *testing.T) {
	n := startNode(t, "", router.Config{}, "127.13.0.1:0")
	a := newAsker(t, "127.13.0.2:0", n.addr)
	token := bytes.Clone(a.wantDone("get", getItem(router.ID{1})).Token)
	a.wantError("put", 202, putItem(router.Item{V: []byte("1:x")}, token))
	a.wantError("announce", 202, announce(router.ID{1}, token, 1))
	r := a.wantDone("sample", krpc.Message{Method: krpc.MethodSampleInfohashes, Target: router.ID{1}, HasTarget: true})
	if r.Samples == nil || len(r.Samples) != 0 || r.Num != 0 {
		t.Errorf("sample: %+v", r)
	}
	r = a.wantDone("unknown method with a target", krpc.Message{Method: krpc.MethodUnknown, Name: []byte("vote"), Target: router.ID{1}, HasTarget: true})
	if r.Nodes == nil {
		t.Error("an unknown method with a target got no contacts")
	}
	a.wantError("unknown method", 204, krpc.Message{Method: krpc.MethodUnknown, Name: []byte("vote")})
	a.send([]byte("d1:ad2:id3:abce1:q4:ping1:t2:zz1:y1:qe"))
	if r := a.answer([]byte("zz")); r.Type != krpc.TypeError || r.Err.Code != 203 {
		t.Errorf("bad id: %+v", r)
	}
	for _, silent := range []string{"", "de", "hello", "d1:q4:ping1:y1:qe", "d1:ad2:id20:" + string(a.id[:]) + "e1:q4:ping1:y1:qe"} {
		a.send([]byte(silent))
	}
	a.send([]byte("d1:eli201e1:xe1:t4:aaaa1:y1:ee")) // an answer that nobody waits for
	r = a.wantDone("ping after garbage", krpc.Message{Method: krpc.MethodPing})
	if r.ID != n.ID(router.IPv4) {
		t.Errorf("ping: %+v", r)
	}
}

// A read-only node answers nobody (BEP 43).
func TestReadOnlyIsSilent(t *testing.T) {
	n := startNode(t, "", router.Config{ReadOnly: true}, "127.13.1.1:0")
	a := newAsker(t, "127.13.1.2:0", n.addr)
	m := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("aa"), ID: a.id, HasID: true}
	b, _ := m.Append(nil)
	a.send(b)
	a.send([]byte("d1:ad2:id3:abce1:q4:ping1:t2:zz1:y1:qe"))
	eventually(t, "both are counted", func() bool { return counter(n.Stats(), "drop", "query to a read-only node") == 2 })
	if r := a.receive(time.Millisecond); r != nil {
		t.Errorf("answered %q", r)
	}
}

func counter(s router.Stats, group, name string) uint64 {
	for _, c := range s.Counters {
		if c.Group == group && c.Name == name {
			return c.Value
		}
	}
	return 0
}

// A node on all addresses answers from the one that was asked, else its answer would be lost on the way or at the
// asker.
func TestAnswerLeavesFromTheAddressAsked(t *testing.T) {
	n := startNode(t, "", router.Config{}, "0.0.0.0:0")
	for _, addr := range []string{"127.14.0.1", "127.14.0.2"} {
		a := newAsker(t, "127.14.0.3:0", netip.AddrPortFrom(netip.MustParseAddr(addr), n.addr.Port())) // connected: hears only this address
		a.wantDone("ping of "+addr, krpc.Message{Method: krpc.MethodPing})
	}
	n6 := startNode(t, "", router.Config{}, "[::]:0")
	a := newAsker(t, "[::1]:0", netip.AddrPortFrom(netip.IPv6Loopback(), n6.addr.Port()))
	a.wantDone("ping of ::1", krpc.Message{Method: krpc.MethodPing})
}
