package bpf_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/router/krpc"
)

// serial makes transaction IDs of clients: a query that was taken over goes up when it comes again.
var serial atomic.Uint32

// replyAgrees gives the program a payload as the reply to the first query of a new recursion: transaction IDs in it are those of
// that query, wherever it has the placeholder "!tid". The program must pass it as it came, or ask what a node of user space
// would ask that has understood the same, or drop it if it is no reply to that query. It returns whether it asked.
func replyAgrees(t testing.TB, p *bpf.Program, s *bpf.Snapshot, aim id, payload []byte) (asked bool) {
	t.Helper()
	out, hop := begun(t, p, s, node4, asker4, fmt.Sprint(serial.Add(1)), aim)
	defer takeAll(t, p)
	tid := slices.Clone(hopTID(t, out))
	payload = bytes.ReplaceAll(payload, []byte("!tid"), tid)
	frame := datagram{from: hop.Addr, to: node4, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: payload}.frame(t)
	verdict, out := run(t, p, frame)
	if verdict == xdpPass {
		if !bytes.Equal(out, frame) {
			t.Fatalf("passed, but changed: %q", payload)
		}
		return false
	}
	var r krpc.Message
	switch {
	case verdict == xdpDrop:
		if krpc.Decode(payload, &r) == nil && bytes.Equal(r.TID, tid) {
			t.Fatalf("dropped, though it is waited for: %q", payload)
		}
		return false
	case verdict != xdpTX:
		t.Fatalf("verdict %d for %q", verdict, payload)
	case krpc.Decode(payload, &r) != nil || r.Type != krpc.TypeResponse || !bytes.Equal(r.TID, tid) || r.ID != hop.ID:
		t.Fatalf("followed what is no response of the node that was asked: %q", payload)
	case r.V != nil || r.Values != nil || r.K != nil || r.Sig != nil || r.HasSeq:
		t.Fatalf("followed a referral though there is an answer: %q", payload)
	}
	m := &recursionModel{self: s.ID4, private: true, own: node4}
	m.state = bpf.Recursion{Method: "get", Target: aim, Client: asker4, Path: bpf.Path{Asked: []bpf.Node{hop}}}
	var contacts []bpf.Node
	for b := r.Nodes; len(b) >= 26; b = b[26:] {
		contacts = append(contacts, contactsOf(&bpf.Snapshot{Nodes4: [][26]byte{[26]byte(b)}}, false)...)
	}
	next, ok := m.choose(contacts, xor(hop.ID, aim))
	if !ok {
		t.Fatalf("asked somebody though there is nobody: %q", payload)
	}
	m.state.Asked = append(m.state.Asked, next)
	if want := m.query(t, hopTID(t, out)); !bytes.Equal(out, want) {
		t.Fatalf("for %q\n got %x\nwant %x", payload, out, want)
	}
	return true
}

// replySeeds are replies of the node that is asked first, with contacts of which some are closer to aim.
func replySeeds(t testing.TB, s *bpf.Snapshot, aim id) (all [][]byte) {
	hop := firstHop(t, s, node4, asker4, aim)
	near := func(bits int, addr string) bpf.Node {
		return bpf.Node{ID: idAt(rand.New(rand.NewPCG(uint64(bits), 1)), aim, bits), Addr: netip.MustParseAddrPort(addr)}
	}
	for _, refs := range [][]bpf.Node{
		{near(100, "198.19.0.1:6881"), near(120, "198.19.0.2:6881"), near(0, "198.19.0.3:6881")},
		{near(158, "127.0.0.1:6881"), near(80, "198.19.0.4:1")},
		{near(160, "198.19.0.5:6881")},
	} {
		all = append(all, response([]byte("!tid"), hop.ID, false, refs))
		nodes := string(compact(refs))
		all = append(all, []byte("d2:ip6:abcdef1:rd2:id20:"+string(hop.ID[:])+"5:nodes"+string(rune('0'+len(nodes)/10))+string(rune('0'+len(nodes)%10))+":"+nodes+
			"5:token8:abcdefghe1:t4:!tid1:v4:LT011:y1:re"))
	}
	return all
}

// FuzzReply has the program and user space read the same replies.
func FuzzReply(f *testing.F) {
	s := snapshot(rand.New(rand.NewPCG(44, 1)), 40, 10)
	aim := randomID(rand.New(rand.NewPCG(44, 2)))
	p := recursive(f, s, true)
	for _, seed := range replySeeds(f, s, aim) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < 1400 {
			replyAgrees(t, p, s, aim, payload)
		}
	})
}

// TestReplyMutations cuts replies at every length and changes each of their bytes.
func TestReplyMutations(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(44, 1)), 40, 10)
	aim := randomID(rand.New(rand.NewPCG(44, 2)))
	p := recursive(t, s, true)
	r := rand.New(rand.NewPCG(44, 3))
	step := max(1, 20000/pairs(t, 20000))
	asked, passed, n := 0, 0, 0
	for i, seed := range replySeeds(t, s, aim) {
		if !replyAgrees(t, p, s, aim, seed) {
			t.Errorf("reply %d is not followed: %q", i, seed)
		}
		for at := range seed {
			for _, change := range []func() []byte{
				func() []byte { return seed[:at] },
				func() []byte { return append(slices.Clone(seed[:at]), seed[at+1:]...) },
				func() []byte { b := slices.Clone(seed); b[at] = byte(r.Uint32()); return b },
				func() []byte { b := slices.Clone(seed); b[at] ^= 1; return b },
				func() []byte { b := slices.Clone(seed); b[at] = "0123456789:deil"[r.IntN(15)]; return b },
			} {
				if n++; n%step != 0 {
					continue
				}
				if replyAgrees(t, p, s, aim, change()) {
					asked++
				} else {
					passed++
				}
			}
		}
	}
	t.Logf("%d followed, %d passed", asked, passed)
}

// TestRecursionLatency prints what a hop costs in the program, beside an ordinary answer, for the log.
func TestRecursionLatency(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 1))
	s := snapshot(r, 200, 200)
	p := recursive(t, s, true)
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		v6 := end.to.Addr().Is6()
		took := map[string][]time.Duration{}
		time1 := func(what string, verdict uint32, d datagram) {
			got, d1, err := p.Time(d.frame(t))
			must(t, err)
			if got != verdict {
				t.Fatalf("%s: verdict %d", what, got)
			}
			took[what] = append(took[what], d1)
		}
		for range min(pairs(t, 2000), 2000) {
			aim := randomID(r)
			time1("find_node answered", xdpTX, queryTo(end.to, end.from, []byte(findNode)))
			time1("recursion begun", xdpTX, queryTo(end.to, end.from, rdQuery("get", "aa", aim)))
			tid, err := p.PendingTID()
			must(t, err)
			hop := firstHop(t, s, end.to, end.from, aim)
			var refs []bpf.Node
			for i := range 8 {
				c := bpf.Node{ID: idAt(r, aim, min(commonPrefix(aim, hop.ID)+1+i%3, 160)), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 1, byte(i)}), 6881)}
				if v6 {
					c.Addr = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:7::1"), uint16(1000+i))
				}
				refs = append(refs, c)
			}
			time1("hop followed", xdpTX, datagram{from: hop.Addr, to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(tid, hop.ID, v6, refs)})
			takeAll(t, p)
		}
		for what, all := range took {
			slices.Sort(all)
			t.Logf("latency: %v, %s: median %v, 99 %% within %v", end.to, what, all[len(all)/2], all[len(all)*99/100])
		}
	}
}
