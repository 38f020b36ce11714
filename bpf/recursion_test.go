package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
)

// The way out of the node under test. BPF_PROG_TEST_RUN has frames come in by the loopback interface, number 1.
var (
	gateway4   = netip.MustParseAddr("198.18.0.254")
	gateway6   = netip.MustParseAddr("fe80::fe")
	gatewayMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xfe}
)

// recursive returns the shared program, with s, doing recursion for everybody.
func recursive(t testing.TB, s *bpf.Snapshot, private bool) *bpf.Program {
	t.Helper()
	p := program(t, s)
	everybody := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	must(t, p.SetClients(everybody))
	must(t, p.SetRoutes([]bpf.Route{
		{Prefix: everybody[0], Ifindex: 1, MAC: [6]byte(nodeMAC), Gateway: gateway4, Source: node4},
		{Prefix: everybody[1], Ifindex: 1, MAC: [6]byte(nodeMAC), Gateway: gateway6, Source: node6},
	}))
	must(t, p.SetNeighbours([]bpf.Neighbour{
		{Ifindex: 1, Addr: gateway4, MAC: [6]byte(gatewayMAC)}, {Ifindex: 1, Addr: gateway6, MAC: [6]byte(gatewayMAC)},
	}))
	must(t, p.AllowRecursion(time.Hour, private))
	setPace(t, p, limit.Pace{})
	takeAll(t, p)
	t.Cleanup(func() {
		takeAll(t, p)
		setPace(t, p, limit.Pace{})
		must(t, p.SetClients(nil))
		must(t, p.AllowRecursion(0, false))
	})
	return p
}

// setPace sets the pace at which nodes are asked, with nothing sent so far.
func setPace(t testing.TB, p *bpf.Program, pace limit.Pace) *limit.Destinations {
	t.Helper()
	must(t, p.SetDestinations(new(limit.Table)))
	d, err := p.Pace(pace)
	must(t, err)
	return d
}

// takeAll takes over all recursions under way.
func takeAll(t testing.TB, p *bpf.Program) []bpf.Recursion {
	t.Helper()
	var all []bpf.Recursion
	for {
		got, others, err := p.TakeOverdue(0, 0)
		must(t, err)
		if all = append(all, got...); others.Count == 0 {
			return all
		}
	}
}

// recursionModel is what a recursion must be, done in user space.
type recursionModel struct {
	self     id
	readOnly bool // what our queries say
	private  bool
	own      netip.AddrPort // from which is asked
	state    bpf.Recursion
	distance id
	sent     *limit.Destinations // nil: there is no limit
	paced    bool                // for which the last choice left out a contact
	before   []bpf.Node          // asked for earlier queries
}

// choose returns the contact to ask next, among those that may be sent something.
func (m *recursionModel) choose(contacts []bpf.Node, closest id) (best bpf.Node, ok bool) {
	private := m.private
	if n := len(m.state.Asked); n > 0 {
		from := m.state.Asked[n-1].Addr
		private = private && !router.Usable(from, false)
	}
	m.paced = false
	for _, c := range contacts {
		d := xor(c.ID, m.state.Target)
		switch {
		case bytes.Compare(d[:], closest[:]) >= 0:
		case !router.Usable(c.Addr, private), c.Addr.Addr().IsLoopback(), c.Addr == m.state.Client, c.Addr == node4, c.Addr == node6:
		case c.ID == m.self:
		case slices.ContainsFunc(m.state.Asked, func(a bpf.Node) bool { return sameHost(a.Addr, c.Addr, m.private) }):
		case m.sent != nil && m.sent.Wait(c.Addr.Addr(), now()) > 0:
			m.paced = true
		default:
			best, closest, ok = c, d, true
		}
	}
	m.distance = closest
	return best, ok
}

// sameHost says whether two addresses count as one: in a public network those of an IPv6 /64 do.
func sameHost(a, b netip.AddrPort, private bool) bool {
	if a.Addr().Is4() || b.Addr().Is4() || private {
		return a.Addr() == b.Addr()
	}
	x, y := a.Addr().As16(), b.Addr().As16()
	return [8]byte(x[:]) == [8]byte(y[:])
}

// query is the frame that asks the node that was asked last.
func (m *recursionModel) query(t testing.TB, tid []byte) []byte {
	t.Helper()
	q := krpc.Message{Type: krpc.TypeQuery, TID: tid, ID: m.self, HasID: true, Version: []byte(krpc.Version), ReadOnly: m.readOnly}
	switch m.state.Method {
	case "find_node":
		q.Method, q.Target, q.HasTarget = krpc.MethodFindNode, m.state.Target, true
	case "get":
		q.Method, q.Target, q.HasTarget = krpc.MethodGet, m.state.Target, true
	case "get_peers":
		q.Method, q.InfoHash, q.HasInfoHash = krpc.MethodGetPeers, m.state.Target, true
	}
	b, err := q.Append(nil)
	must(t, err)
	to := m.state.Asked[len(m.state.Asked)-1].Addr
	return datagram{from: m.own, to: to, fromMAC: nodeMAC, toMAC: gatewayMAC, reply: true, payload: b}.frame(t)
}

// hopTID cuts the transaction ID out of a frame with a query of ours.
func hopTID(t testing.TB, frame []byte) []byte {
	t.Helper()
	const end = "1:v4:KD\x00\x011:y1:qe"
	if !bytes.HasSuffix(frame, []byte(end)) {
		t.Fatalf("no query of ours: %q", frame)
	}
	return frame[len(frame)-len(end)-4:][:4]
}

// rdQuery is a client's query.
func rdQuery(method, tid string, target id) []byte {
	key := "6:target"
	if method == "get_peers" {
		key = "9:info_hash"
	}
	return fmt.Appendf(nil, "d1:ad2:id20:%s%s20:%se1:q%d:%s2:rdi1e1:t%d:%s1:y1:qe", anID, key, target[:], len(method), method, len(tid), tid)
}

// closestContacts lists the contacts of a family that are closest to a target, which is all that the program looks at.
func closestContacts(s *bpf.Snapshot, target id, v6 bool) []bpf.Node {
	all := contactsOf(s, v6)
	slices.SortFunc(all, func(a, b bpf.Node) int {
		return nearer(target[:], a.ID[:], b.ID[:])
	})
	return all[:min(len(all), bpf.BucketSize)]
}

// contactsOf lists the contacts of a family.
func contactsOf(s *bpf.Snapshot, v6 bool) (all []bpf.Node) {
	if v6 {
		for _, n := range s.Nodes6 {
			all = append(all, bpf.Node{ID: [20]byte(n[:]), Addr: netip.AddrPortFrom(netip.AddrFrom16([16]byte(n[20:])), binary.BigEndian.Uint16(n[36:]))})
		}
		return all
	}
	for _, n := range s.Nodes4 {
		all = append(all, bpf.Node{ID: [20]byte(n[:]), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[20:])), binary.BigEndian.Uint16(n[24:]))})
	}
	return all
}

// compact is the contacts as in a reply.
func compact(nodes []bpf.Node) (b []byte) {
	for _, n := range nodes {
		b = append(append(b, n.ID[:]...), n.Addr.Addr().AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, n.Addr.Port())
	}
	return b
}

// response is a node's reply with contacts.
func response(tid []byte, from id, v6 bool, nodes []bpf.Node) []byte {
	m := krpc.Message{Type: krpc.TypeResponse, TID: tid, ID: from, HasID: true}
	if v6 {
		m.Nodes6 = append([]byte{}, compact(nodes)...)
	} else {
		m.Nodes = append([]byte{}, compact(nodes)...)
	}
	b, err := m.Append(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// referrals makes up what a node refers to: closer and farther nodes, and such that must not be asked.
func referrals(r *rand.Rand, m *recursionModel, n int, v6 bool) (all []bpf.Node) {
	odd := []string{"0.0.0.0", "127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.7.7", "169.254.9.9", "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.7.7.7", "8.8.8.8"}
	if v6 {
		odd = []string{"::", "::1", "::2", "::ffff:8.8.8.8", "fe80::1", "fd00::1", "ff02::1", "2600::1", "4000::1", "fec0::1"}
	}
	for range n {
		c := bpf.Node{ID: idAt(r, m.state.Target, min(max(commonPrefix(m.state.Target, m.state.Asked[len(m.state.Asked)-1].ID)+r.IntN(8)-2, 0), 160))}
		if r.IntN(8) == 0 { // as somebody knows us whom we see at another address
			c.ID = m.self
		}
		switch k := r.IntN(12); {
		case k == 0 && m.state.Client.Addr().Is6() == v6:
			c.Addr = m.state.Client
		case k == 1:
			c.Addr = m.own
		case k == 2:
			c.Addr = m.state.Asked[r.IntN(len(m.state.Asked))].Addr
		case k < 5 && len(m.before) > 0:
			c.Addr = m.before[r.IntN(len(m.before))].Addr
		case k < 7:
			c.Addr = netip.AddrPortFrom(netip.MustParseAddr(odd[r.IntN(len(odd))]), uint16(r.IntN(3)*6881))
		case v6:
			a := netip.MustParseAddr("2001:db8::").As16()
			binary.BigEndian.PutUint64(a[8:], r.Uint64())
			binary.BigEndian.PutUint16(a[6:], uint16(r.IntN(40))) // some are of the same /64
			c.Addr = netip.AddrPortFrom(netip.AddrFrom16(a), uint16(r.Uint32()))
		default:
			c.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(r.Uint32()), byte(r.Uint32())}), uint16(r.Uint32()))
		}
		all = append(all, c)
	}
	return all
}

// TestRecursionDifferential carries clients' queries through made-up networks, and compares every query of ours, every
// choice of the next node and what is remembered with a model in user space.
func TestRecursionDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(40, 1))
	hops, ended, refused := 0, map[string]int{}, 0
	for n := range max(pairs(t, 100000)/4000, 4) {
		s := snapshot(r, r.IntN(60), r.IntN(60))
		s.ReadOnly4, s.ReadOnly6 = r.IntN(4) == 0, r.IntN(4) == 0
		private := r.IntN(2) == 0
		p := recursive(t, s, private)
		pace, table := limit.Pace{Rate: 0.01, Burst: 1 + r.IntN(3)}, new(limit.Table)
		if n%2 == 0 {
			pace = limit.Pace{}
		}
		setPace(t, p, pace)
		sent := limit.NewDestinations(pace, p.Seed(), table)
		before := map[bool][]bpf.Node{}
		for range 50 {
			v6 := r.IntN(2) == 0
			m := &recursionModel{self: s.ID4, readOnly: s.ReadOnly4, private: private, own: node4, sent: sent}
			m.state = bpf.Recursion{Entry: node4, Method: []string{"find_node", "get_peers", "get"}[r.IntN(3)], Target: target(r, s)}
			if v6 {
				m.self, m.readOnly, m.own, m.state.Entry = s.ID6, s.ReadOnly6, node6, node6
			}
			m.state.TID = make([]byte, 1+r.IntN(20))
			for i := range m.state.TID {
				m.state.TID[i] = byte(r.Uint32())
			}
			d := datagramFor(r, nil)
			for d.to != m.own || d.vlans != nil {
				d = datagramFor(r, nil)
			}
			m.state.Client, d.payload = d.from, rdQuery(m.state.Method, string(m.state.TID), m.state.Target)
			if m.state.Method == "get" && r.IntN(3) == 0 {
				m.state.Seq, m.state.HasSeq = r.Int64N(1<<r.IntN(59)), true
				d.payload = bytes.Replace(d.payload, []byte("6:target"), fmt.Appendf(nil, "3:seqi%de6:target", m.state.Seq), 1)
			}
			next, ok := m.choose(closestContacts(s, m.state.Target, v6), id(bytes.Repeat([]byte{255}, 20)))
			if !ok { // in the other family, perhaps
				paced := m.paced
				v6 = !v6
				m.self, m.readOnly, m.own = s.ID4, s.ReadOnly4, node4
				if v6 {
					m.self, m.readOnly, m.own = s.ID6, s.ReadOnly6, node6
				}
				next, ok = m.choose(closestContacts(s, m.state.Target, v6), id(bytes.Repeat([]byte{255}, 20)))
				m.paced = m.paced || paced
				if ok {
					ended["other family"]++
				}
			}
			m.before = before[v6]
			if !ok {
				reason := "recursion_no_contact"
				if m.paced {
					reason = "recursion_paced"
				}
				ended[reason]++
				expect(t, p, reason, "nobody to ask", d.frame(t))
				continue
			}
			frame := d.frame(t)
			for reason := ""; ; {
				verdict, out := run(t, p, frame)
				m.state.Asked = append(m.state.Asked, next)
				if wait, ok := sent.Reserve(next.Addr.Addr(), now(), 0); !ok || wait > 0 {
					t.Fatalf("hop %d: no token for %v", len(m.state.Asked), next.Addr)
				}
				if verdict != xdpTX {
					t.Fatalf("hop %d: verdict %d for %q", len(m.state.Asked), verdict, frame)
				}
				tid := hopTID(t, out)
				m.state.Transaction = [4]byte(tid)
				if want := m.query(t, tid); !bytes.Equal(out, want) {
					t.Fatalf("hop %d to %v\n got %x\nwant %x", len(m.state.Asked), next.Addr, out, want)
				}
				if !bpf.KernelTransaction(tid) {
					t.Fatalf("transaction ID %x", tid)
				}
				hops++
				// What comes back.
				refs := referrals(r, m, r.IntN(12-2*len(m.state.Asked)/3), v6)
				reply := datagram{from: next.Addr, to: m.own, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(tid, next.ID, v6, refs)}
				last := next
				if len(reply.payload) > 504 {
					t.Fatal("too long")
				}
				next, ok = m.choose(refs, m.distance)
				switch {
				case !ok && m.paced:
					reason = "hop_paced"
				case !ok:
					reason = "hop_no_closer"
				case len(m.state.Asked) == bpf.MaxHops:
					reason = "hop_limit"
				case r.IntN(20) == 0:
					reply.payload, reason = bytes.Replace(reply.payload, last.ID[:], []byte(anID), 1), "hop_other_id"
				case r.IntN(20) == 0:
					reply.payload, reason = fmt.Appendf(nil, "d1:rd2:id20:%s1:v5:helloe1:t4:%s1:y1:re", last.ID[:], tid), "hop_answer"
				case r.IntN(20) == 0:
					reply.from, reason = netip.AddrPortFrom(last.Addr.Addr(), last.Addr.Port()%65535+1), "hop_other_source"
				}
				frame = reply.frame(t)
				if reason == "" {
					m.state.Referral = refs[:min(len(refs), map[bool]int{false: 11, true: 8}[v6])]
					continue
				}
				expect(t, p, reason, "the end", frame)
				ended[reason]++
				before[v6] = append(before[v6], m.state.Asked...)
				if _, ok, err := p.TakeRecursion(tid, m.own, nil); ok || err != nil {
					t.Fatalf("taken for another node: %v", err)
				}
				got, ok, err := p.TakeRecursion(tid, last.Addr, nil)
				if err != nil || !ok {
					t.Fatalf("nothing to take over: %v", err)
				}
				if got.Begun < got.Sent || got.Begun > time.Minute {
					t.Errorf("begun %v, sent %v ago", got.Begun, got.Sent)
				}
				got.Begun, got.Sent = 0, 0
				if fmt.Sprint(got) != fmt.Sprint(m.state) {
					t.Fatalf("state\n got %+v\nwant %+v", got, m.state)
				}
				expect(t, p, "hop_late", "taken over", reply.frame(t))
				expect(t, p, "recursion_taken", "once more", d.frame(t))
				break
			}
		}
		compareDestinations(t, p, table)
		c := counts(t, p)
		refused = int(c["event/referral_bogus"] + c["event/referral_own"] + c["event/referral_client"] + c["event/referral_again"])
		for _, e := range []string{"bogus", "own", "client", "again"} {
			ended["refused "+e] = int(c["event/referral_"+e])
		}
	}
	t.Logf("%d hops, %d contacts refused, %v", hops, refused, ended)
	for _, e := range []string{"other family", "recursion_paced", "hop_no_closer", "hop_paced", "hop_other_id", "hop_answer", "hop_other_source", "refused bogus", "refused own", "refused client", "refused again"} {
		if ended[e] == 0 {
			t.Errorf("%s did not happen", e)
		}
	}
}

// begun begins a recursion and returns the first query of ours and the node that it is for.
func begun(t testing.TB, p *bpf.Program, s *bpf.Snapshot, to, from netip.AddrPort, tid string, target id) (query []byte, hop bpf.Node) {
	t.Helper()
	verdict, out := run(t, p, queryTo(to, from, rdQuery("get", tid, target)).frame(t))
	if verdict != xdpTX {
		t.Fatalf("verdict %d", verdict)
	}
	return out, firstHop(t, s, to, from, target)
}

// firstHop is the node that is asked first, in a private network.
func firstHop(t testing.TB, s *bpf.Snapshot, to, from netip.AddrPort, target id) bpf.Node {
	t.Helper()
	m := recursionModel{private: true, state: bpf.Recursion{Target: target, Client: from}}
	hop, ok := m.choose(closestContacts(s, target, to.Addr().Is6()), id(bytes.Repeat([]byte{255}, 20)))
	if !ok {
		t.Fatal("no contact")
	}
	return hop
}

// TestRecursionChain follows referrals that come ever closer: they end at the bound.
func TestRecursionChain(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 1))
	s := snapshot(r, 20, 20)
	p := recursive(t, s, true)
	for _, end := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
		target := randomID(r)
		v6 := end.to.Addr().Is6()
		out, hop := begun(t, p, s, end.to, end.from, "aa", target)
		for n := 1; ; n++ {
			tid := slices.Clone(hopTID(t, out))
			closer := bpf.Node{ID: idAt(r, target, min(commonPrefix(target, hop.ID)+1, 159)), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 0, byte(n)}), 6881)}
			if v6 {
				closer.Addr = netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:9::%x]:6881", n))
			}
			d := datagram{from: hop.Addr, to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(tid, hop.ID, v6, []bpf.Node{closer})}
			if n == bpf.MaxHops {
				expect(t, p, "hop_limit", "the last", d.frame(t))
				break
			}
			var verdict uint32
			if verdict, out = run(t, p, d.frame(t)); verdict != xdpTX {
				t.Fatalf("hop %d: verdict %d", n, verdict)
			}
			expect(t, p, "hop_late", "the same reply again", d.frame(t))
			hop = closer
		}
		if all := takeAll(t, p); len(all) != 1 || len(all[0].Asked) != bpf.MaxHops {
			t.Errorf("taken over: %+v", all)
		}
	}
}

// TestRecursionReasons reaches the ways out that concern recursion.
func TestRecursionReasons(t *testing.T) {
	r := rand.New(rand.NewPCG(42, 1))
	s := snapshot(r, 30, 30)
	p := recursive(t, s, true)
	aim := randomID(r)
	for _, end := range []struct {
		to, from netip.AddrPort
		v6       bool
	}{{node4, asker4, false}, {node6, asker6, true}} {
		first := fmt.Sprint("q", serial.Add(1)) // another one when the test runs again: that of a recursion just over goes up
		query := queryTo(end.to, end.from, rdQuery("get", first, aim)).frame(t)
		out, hop := begun(t, p, s, end.to, end.from, first, aim)
		tid := string(hopTID(t, out))
		from := func(payload string) []byte {
			return datagram{from: hop.Addr, to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: []byte(payload)}.frame(t)
		}
		before := counts(t, p)
		if verdict, _ := run(t, p, query); verdict != 1 {
			t.Errorf("a repeated query: verdict %d, want XDP_DROP", verdict)
		}
		if counts(t, p)["recursion_joined"] != before["recursion_joined"]+1 {
			t.Error("a repeated query did not join")
		}
		good := string(response([]byte(tid), hop.ID, end.v6, nil))
		for _, c := range []struct{ reason, payload string }{
			{"hop_no_closer", good},
			{"hop_error", "d1:eli202e45:Server Error, and more to make it long enoughe1:t4:" + tid + "1:v4:xxxx1:y1:ee"},
			{"hop_error", "d1:eli204e14:Method Unknowne1:t4:" + tid + "1:y1:ee"},
			{"hop_error", "d1:eli201e0:e1:t4:" + tid + "1:y1:ee"},
			{"hop_error", "d1:eli201e23:A Generic Error Ocurrede1:t4:" + tid + "1:y1:ee"},
			{"hop_error", "d1:eli203e0:e2:ip6:abcdef1:rd2:id20:" + string(hop.ID[:]) + "e1:t4:" + tid + "1:y1:ee"},
			{"hop_answer", "d1:eli202e45:Server Error, and more to make it long enoughe1:t4:" + tid + "1:v4:xxxx1:y1:re"},
			{"bad_argument", "d1:e32:Server Error, and more to make it1:t4:" + tid + "1:v4:xxxx1:y1:ee"},
			{"bad_transaction", "d1:eli202e12:Server Errore1:t18:aaaaaaaaa1:t4:" + tid + "1:v4:xxxx1:y1:ee"},
			{"missing_argument", "d1:rd2:id20:" + string(hop.ID[:]) + "e1:t4:" + tid + "1:v4:xxxx1:y1:ee"},
			{"hop_answer", "d1:rd2:id20:" + string(hop.ID[:]) + "6:valuesl6:abcdefee1:t4:" + tid + "1:y1:re"},
			{"hop_answer", "d1:rd2:id20:" + string(hop.ID[:]) + "3:seqi4ee1:t4:" + tid + "1:y1:re"},
			{"hop_answer", "d1:rd2:id20:" + string(hop.ID[:]) + "1:k0:3:seqi4ee1:t4:" + tid + "1:y1:re"},
			{"hop_late", strings.Replace(good, tid, "\xff\xff\xff\xfe", 1)},
			{"bad_argument", strings.Replace(good, "1:rd", "1:rl", 1)},
			{"bad_argument", "d1:rd2:id20:" + string(hop.ID[:]) + "5:nodes3:abce1:t4:" + tid + "1:y1:re"},
			{"bad_argument", "d1:rd2:id20:" + string(hop.ID[:]) + "6:nodes63:abce1:t4:" + tid + "1:y1:re"},
			{"bad_argument", "d1:r20:aaaaaaaaaaaaaaaaaaaa1:s20:aaaaaaaaaaaaaaaaaaaa1:t4:" + tid + "1:y1:re"},
			{"malformed", strings.Replace(good, "1:rd", "1:r:", 1)},
			{"not_canonical", strings.Replace(good, "e1:t4", "1:si1e1:si1ee1:t4", 1)},
			{"not_query", strings.Replace(good, "1:rd", "1:q4:ping1:rd", 1)},
			{"missing_argument", "d1:rd1:s30:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaae1:t4:" + tid + "1:v4:xxxx1:y1:re"},
			{"bad_transaction", "d1:rd2:id20:" + string(hop.ID[:]) + "e1:t18:aaaaaaaaa1:t4:" + tid + "1:v4:xxxx1:y1:re"},
		} {
			expect(t, p, c.reason, fmt.Sprintf("%q", c.payload), from(c.payload))
		}
		bad := from(good)
		bad[len(bad)-30] ^= 1 // of the ID or the contacts
		expect(t, p, "bad_udp_checksum", "a byte changed", bad)
		other := datagram{from: netip.AddrPortFrom(hop.Addr.Addr(), hop.Addr.Port()^1), to: end.to, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: []byte(good)}
		expect(t, p, "hop_other_source", "another port", other.frame(t))

		// No way to the next node.
		closer := bpf.Node{ID: aim, Addr: netip.MustParseAddrPort("198.19.1.1:6881")}
		if end.v6 {
			closer.Addr = netip.MustParseAddrPort("[2001:db8:9::1]:6881")
		}
		referral := from(string(response([]byte(tid), hop.ID, end.v6, []bpf.Node{closer})))
		must(t, p.SetNeighbours(nil))
		expect(t, p, "no_neighbour", "gateway unknown", referral)
		must(t, p.SetRoutes(nil))
		expect(t, p, "no_route", "no routes", referral)
		expect(t, p, "no_route", "a client's query without routes", queryTo(end.to, end.from, rdQuery("get", "q2", aim)).frame(t))
		tagged := queryTo(end.to, end.from, rdQuery("get", "q3", aim))
		tagged.vlans = []uint16{7}
		expect(t, p, "no_route", "with a tag", tagged.frame(t))
		recursive(t, s, true)
	}

	recursive(t, &bpf.Snapshot{}, true)
	expect(t, p, "recursion_no_contact", "an empty table", queryTo(node4, asker4, rdQuery("get", "q4", aim)).frame(t))
	recursive(t, s, true)
	get := string(rdQuery("get", "q4", aim))
	peers := string(rdQuery("get_peers", "q4", aim))
	expect(t, p, "recursion_argument", "noseed", queryTo(node4, asker4, []byte(strings.Replace(peers, "e1:q", "6:noseedi1ee1:q", 1))).frame(t))
	expect(t, p, "bad_argument", "rd = 2", queryTo(node4, asker4, []byte(strings.Replace(get, "rdi1e", "rdi2e", 1))).frame(t))
	expect(t, p, "answered/get", "rd = 0", queryTo(node4, asker4, []byte(strings.Replace(get, "rdi1e", "rdi0e", 1))).frame(t))
	expect(t, p, "answered/ping", "a ping", queryTo(node4, asker4, []byte(strings.Replace(ping, "1:t", "2:rdi1e1:t", 1))).frame(t))
	expect(t, p, "recursion_argument", "from a link-local address", queryTo(node6, netip.MustParseAddrPort("[fe80::7]:51413"), []byte(get)).frame(t))
	must(t, p.AllowRecursion(0, true))
	expect(t, p, "recursion_off", "without leave", queryTo(node4, asker4, []byte(get)).frame(t))
	must(t, p.Hold(aim))
	expect(t, p, "held", "held here", queryTo(node4, asker4, []byte(get)).frame(t))
	must(t, p.Release(aim))
	must(t, p.SetClients([]netip.Prefix{netip.MustParsePrefix("198.18.7.0/24")}))
	must(t, p.AllowRecursion(time.Hour, true))
	expect(t, p, "answered/get", "from elsewhere", queryTo(node4, netip.MustParseAddrPort("198.18.8.9:51413"), []byte(get)).frame(t))
	if verdict, out := run(t, p, queryTo(node4, asker4, []byte(get)).frame(t)); verdict != xdpTX || !bytes.Contains(out, []byte("e1:q3:get")) {
		t.Error("no recursion for an allowed prefix")
	}
}

// TestRecursionBounds has one client, and many, ask for more than there is room for.
func TestRecursionBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 1))
	s := snapshot(r, 30, 30)
	p := recursive(t, s, true)
	tally := func(n int, client func(i int) netip.AddrPort) map[uint32]int {
		verdicts := map[uint32]int{}
		for i := range n {
			verdict, _ := run(t, p, queryTo(node4, client(i), rdQuery("get", fmt.Sprintf("%04d", i), randomID(r))).frame(t))
			verdicts[verdict]++
		}
		return verdicts
	}
	before := counts(t, p)
	got := tally(500, func(int) netip.AddrPort { return asker4 })
	if got[xdpTX] < 40 || got[xdpTX] > 64 {
		t.Errorf("one client has %d recursions under way, want at most 64", got[xdpTX])
	}
	if n := counts(t, p)["recursion_client_full"] - before["recursion_client_full"]; int(n) != got[xdpPass] {
		t.Errorf("%d passed, %d counted", got[xdpPass], n)
	}
	got = tally(4000, func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 1024)
	})
	if n := counts(t, p)["recursion_full"] - before["recursion_full"]; n == 0 || int(n) > got[xdpPass] {
		t.Errorf("for want of room %d of %d queries passed", n, got[xdpPass])
	}
	all := takeAll(t, p)
	if n := len(all); n < 3072 || n > 3200 { // queries; with several paths a recursion has as many
		t.Errorf("%d recursions were under way", n)
	}
	got = tally(40, func(int) netip.AddrPort { return asker4 })
	if got[xdpTX] < 30 {
		t.Errorf("what user space has taken over still counts: %v", got)
	}
}
