package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/bpf"
	"kdht/bpf/limit"
)

// hostOf6 is a host of an IPv6 /64.
func hostOf6(net uint16, host uint64) netip.Addr {
	a := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint16(a[6:], net)
	binary.BigEndian.PutUint64(a[8:], host)
	return netip.AddrFrom16(a)
}

// TestClientIsASlash64 has many hosts of one IPv6 /64 ask: they have together what one client may have under way, and those of another /64
// as much. Hosts whose queries are alike do not join each other's, but each its own.
func TestClientIsASlash64(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	p := recursive(t, snapshot(r, 30, 30), true)
	aim := randomID(r)
	ask := func(net uint16, host uint64) (verdict uint32) {
		verdict, _ = run(t, p, queryTo(node6, netip.AddrPortFrom(hostOf6(net, host), 1024), rdQuery("get", "same", aim)).frame(t))
		return verdict
	}
	before := counts(t, p)
	for net := range uint16(2) {
		verdicts := map[uint32]int{}
		for range 500 {
			verdicts[ask(0x77+net, r.Uint64())]++
		}
		if got := verdicts[xdpTX]; got < 40 || got > 64 || verdicts[xdpPass] != 500-got {
			t.Errorf("the hosts of one /64: %v, want at most 64 recursions, and the others passed up", verdicts)
		}
	}
	after := counts(t, p)
	if n := after["recursion_joined"] - before["recursion_joined"]; n != 0 {
		t.Errorf("%d queries of other hosts joined", n)
	}
	begun := after["recursion_begun"] - before["recursion_begun"]
	all := takeAll(t, p)
	if len(all) != int(begun) {
		t.Errorf("%d recursions taken over, %d begun", len(all), begun)
	}
	for _, taken := range all[:3] {
		if verdict, _ := run(t, p, queryTo(node6, taken.Client, rdQuery("get", "same", aim)).frame(t)); verdict != xdpPass {
			t.Errorf("once more what user space has taken over: verdict %d", verdict)
		}
	}
	if verdict := ask(0x77, 1); verdict != xdpTX {
		t.Errorf("what user space has taken over still counts: verdict %d", verdict)
	}
	if verdict := ask(0x77, 1); verdict != xdpDrop {
		t.Errorf("a repeated query: verdict %d", verdict)
	}
	if verdict := ask(0x77, 2); verdict != xdpTX {
		t.Errorf("another host: verdict %d", verdict)
	}
}

// TestQueryBudget has clients ask for more than the program may send: what exceeds the budget goes up, and a recursion that has begun goes
// on while others may not begin any more.
func TestQueryBudget(t *testing.T) {
	r := rand.New(rand.NewPCG(62, 1))
	s := snapshot(r, 40, 0)
	for _, paths := range []int{1, bpf.MaxPaths} {
		t.Run(fmt.Sprintf("%d paths", paths), func(t *testing.T) {
			p := recursive(t, s, true)
			must(t, p.SetLauncher(1, paths > 1))
			must(t, p.SetBudgets(0))
			must(t, p.SetLimits(limit.Config{Queries: 1})) // a second, and 6 at once
			t.Cleanup(func() {
				must(t, p.SetLimits(limit.Config{}))
				must(t, p.SetLauncher(1, false))
			})
			started := time.Now()
			most := func() int { return 6 + int(time.Since(started)/time.Second) + 1 }
			aim := randomID(r)
			sent, paced := 0, 0
			var frame []byte // our query to a node
			for i := range 60 {
				d := queryTo(node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 40, byte(i)}), 1024), rdQuery("get", "aa", aim))
				before := counts(t, p)
				verdict, out := run(t, p, d.frame(t))
				after := counts(t, p)
				switch {
				case after["recursion_paced"] > before["recursion_paced"]:
					paced++
					if verdict != xdpPass || !bytes.Equal(out, d.frame(t)) {
						t.Fatalf("what exceeds the budget: verdict %d", verdict)
					}
				case after["recursion_begun"] == before["recursion_begun"]:
					t.Fatalf("verdict %d", verdict)
				case paths == 1:
					frame = out
					sent++
				default:
					frames, _, err := p.TakeFlight(out[14:18])
					must(t, err)
					if len(frames) != paths {
						t.Errorf("a recursion with %d paths", len(frames))
					}
					frame = frames[0]
					sent += len(frames)
				}
			}
			if sent == 0 || sent > most()-3 || paced == 0 { // half is for what follows
				t.Fatalf("%d queries sent, %d clients' passed up", sent, paced)
			}
			followed := 0
			for n := byte(1); ; n++ {
				to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(frame[30:34])), binary.BigEndian.Uint16(frame[36:]))
				tid := slices.Clone(hopTID(t, frame))
				var from bpf.Node
				if i := slices.IndexFunc(contactsOf(s, false), func(c bpf.Node) bool { return c.Addr == to }); i >= 0 {
					from = contactsOf(s, false)[i]
				} else {
					from = bpf.Node{ID: id(closer(aim, int(n)-1)), Addr: to}
				}
				next := bpf.Node{ID: id(closer(aim, int(n))), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, 77, n}), 6881)}
				d := datagram{from: to, to: node4, fromMAC: gatewayMAC, toMAC: nodeMAC, payload: response(tid, from.ID, false, []bpf.Node{next})}
				before := counts(t, p)
				verdict, out := run(t, p, d.frame(t))
				after := counts(t, p)
				if after["hop_followed"] > before["hop_followed"] {
					followed++
					frame = out
					continue
				}
				if after["hop_paced"] == before["hop_paced"] || verdict != xdpPass {
					t.Fatalf("hop %d: verdict %d", n, verdict)
				}
				if got, ok, err := p.TakeRecursion(tid, to, nil); err != nil || !ok || len(got.Asked) != int(n) {
					t.Errorf("not to be taken over: %+v, %v, %v", got, ok, err)
				}
				break
			}
			if followed < 3 || sent+followed > most() {
				t.Errorf("%d hops followed, %d queries sent before", followed, sent)
			}
			must(t, p.SetLimits(limit.Config{}))
			d := queryTo(node4, netip.MustParseAddrPort("198.18.41.1:1024"), rdQuery("get", "aa", aim))
			before := counts(t, p)["recursion_begun"]
			run(t, p, d.frame(t))
			if counts(t, p)["recursion_begun"] == before {
				t.Error("no recursion without a budget")
			}
		})
	}
}

// closer is an ID that shares 60 bits and n more with a target.
func closer(target id, n int) []byte {
	out := slices.Clone(target[:])
	bit := 60 + n
	out[bit/8] ^= 0x80 >> (bit % 8)
	return out
}

// TestForgedClients has sources ask that are exempt from limits, or clients, but never proved to be there: whatever of it is for user space is passed
// up as far as that takes what may be forged, of which they have a part of their own, and then asked for a proof, or dropped.
func TestForgedClients(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 1))
	p := recursive(t, snapshot(r, 30, 30), true)
	t.Cleanup(func() { must(t, p.SetLimits(limit.Config{})) })
	exempt := []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}
	held := randomID(r)
	must(t, p.Hold(held))
	must(t, p.Prove(asker4.Addr()))
	must(t, p.Prove(asker6.Addr()))
	for _, c := range []struct {
		name    string
		exempt  []netip.Prefix
		clients bool
	}{{"exempt clients", exempt, true}, {"clients", nil, true}, {"exempt", exempt, false}} {
		for _, e := range []struct{ to, forged, proven netip.AddrPort }{
			{node4, netip.MustParseAddrPort("198.18.60.1:1024"), asker4},
			{node6, netip.AddrPortFrom(hostOf6(0x60, 1), 1024), asker6},
		} {
			t.Run(fmt.Sprint(c.name, ", ", e.to.Addr()), func(t *testing.T) {
				must(t, p.SetLimits(limit.Config{Rate: 100, Burst: 1000, Unproven: 1000, Queries: 1, Exempt: c.exempt}))
				must(t, p.SetBudgets(0))
				query := func(from netip.AddrPort, method string, aim id) []byte {
					return queryTo(e.to, from, rdQuery(method, fmt.Sprint(serial.Add(1)), aim)).frame(t)
				}
				passed := map[string]string{ // the end of a query, and why it goes up
					"1:q4:vote1:t2:aa1:y1:qe":                                              "other_method",
					"1:q17:sample_infohashes1:t2:aa1:y1:qe":                                "other_method",
					"1:q3:put2:rdi1e1:t2:aa1:y1:qe":                                        "other_method",
					"1:q13:announce_peer2:rdi1e1:t2:aa1:y1:qe":                             "other_method",
					"1:q3:get2:rdi01e1:t2:aa1:y1:qe":                                       "not_canonical",
					"1:q3:get2:rdi1e1:t2:aa1:y1:q1:z" + strings.Repeat("i1e", 9):           "malformed",
					"1:q3:get2:rdi1e1:t2:aa1:v500:" + strings.Repeat("x", 500) + "1:y1:qe": "too_long",
				}
				frames := map[string][]byte{}
				for end, why := range passed {
					frames[why+" "+end] = queryTo(e.to, e.forged, []byte("d1:ad2:id20:"+anID+"6:target20:"+aTarget+"e"+end)).frame(t)
				}
				frames["held"] = query(e.forged, "get", held)
				proven := map[string][]byte{"held": query(e.proven, "get", held)}
				if c.clients {
					must(t, p.SetClients([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}))
					for begun := uint64(1); begun > 0; { // until all queries are spent
						before := counts(t, p)["recursion_begun"]
						run(t, p, query(e.proven, "get", randomID(r)))
						begun = counts(t, p)["recursion_begun"] - before
					}
					frames["recursion_paced"], proven["recursion_paced"] = query(e.forged, "get", randomID(r)), query(e.proven, "get", randomID(r))
					tagged := queryTo(e.to, e.forged, rdQuery("get", fmt.Sprint(serial.Add(1)), randomID(r)))
					tagged.vlans = []uint16{7}
					frames["no_route"] = tagged.frame(t)
				} else {
					must(t, p.SetClients(nil))
				}
				short := queryTo(e.to, e.forged, []byte("d1:y1:qe")).frame(t)
				while := func(what string) {
					for why, frame := range frames {
						reason, _, _ := strings.Cut(why, " ")
						expect(t, p, reason, what, frame)
					}
					expect(t, p, "too_short", what, short)
				}
				while("while the budget lasts")
				must(t, p.SpendUnproven())
				while("in a flood of others")
				must(t, p.SpendTrusted())
				for why, frame := range frames {
					expect(t, p, "challenged", "then "+why, frame)
				}
				expect(t, p, "overloaded", "then", short)
				for reason, frame := range proven {
					expect(t, p, reason, "who has proved where he is", frame)
				}
			})
		}
	}
}

// TestForgedClientsWithoutNeighbour has such sources ask for recursion where the next node's link address is not known.
func TestForgedClientsWithoutNeighbour(t *testing.T) {
	r := rand.New(rand.NewPCG(64, 1))
	p := recursive(t, snapshot(r, 30, 30), true)
	t.Cleanup(func() { must(t, p.SetLimits(limit.Config{})) })
	must(t, p.SetLimits(limit.Config{Unproven: 1000}))
	must(t, p.SetNeighbours(nil))
	for _, e := range []struct{ to, forged netip.AddrPort }{
		{node4, netip.MustParseAddrPort("198.18.61.1:1024")}, {node6, netip.AddrPortFrom(hostOf6(0x61, 1), 1024)},
	} {
		query := func() []byte {
			return queryTo(e.to, e.forged, rdQuery("get", fmt.Sprint(serial.Add(1)), randomID(r))).frame(t)
		}
		must(t, p.SetBudgets(0))
		expect(t, p, "no_neighbour", "while the budget lasts", query())
		must(t, p.SpendTrusted())
		expect(t, p, "challenged", "then", query())
	}
}

// TestForgedClientsBeginLittle has ever new clients ask for recursion: all who never proved their address together have begun an eighth of what there is,
// and those who have, all of it.
func TestForgedClientsBeginLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(65, 1))
	p := recursive(t, snapshot(r, 40, 0), true)
	t.Cleanup(func() { must(t, p.SetLimits(limit.Config{})) })
	must(t, p.SetLimits(limit.Config{Unproven: 1000, Queries: 400})) // 100 at once, half of them for the begin
	begun := func(net byte, prove bool) (n uint64, took time.Duration) {
		must(t, p.SetBudgets(0))
		begin, before := time.Now(), counts(t, p)["recursion_begun"]
		for i := range 200 {
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, net, byte(i)}), 1024)
			if prove {
				must(t, p.Prove(client.Addr()))
			}
			run(t, p, queryTo(node4, client, rdQuery("get", "aa", randomID(r))).frame(t))
		}
		return counts(t, p)["recursion_begun"] - before, time.Since(begin)
	}
	n, took := begun(70, false)
	if most := 2*100/8 + uint64(took.Seconds()*400/8) + 1; n < 10 || n > most {
		t.Errorf("%d begun for who may be forged, want at most %d in %v", n, most, took)
	}
	takeAll(t, p)
	if n, _ := begun(71, true); n < 50 {
		t.Errorf("%d begun for who may not", n)
	}
}

// However little the program may send for clients, those who never proved their address have a part of it: the first of them is looked up for, another one when that
// is paid for.
func TestForgedClientsBeginWhateverThereIs(t *testing.T) {
	r := rand.New(rand.NewPCG(66, 1))
	p := recursive(t, snapshot(r, 40, 0), true)
	t.Cleanup(func() {
		must(t, p.SetLimits(limit.Config{}))
		must(t, p.SetLauncher(1, false))
	})
	for _, paths := range []int{1, bpf.MaxPaths} {
		must(t, p.SetLauncher(1, paths > 1))
		for _, queries := range []int{1, 2, 10, 47, 48, 100} { // a second
			must(t, p.SetLimits(limit.Config{Unproven: 1000, Queries: queries}))
			must(t, p.SetBudgets(0))
			begin, begun := time.Now(), 0
			for i := range 40 {
				before := counts(t, p)["recursion_begun"]
				run(t, p, queryTo(node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 72, byte(i)}), 1024), rdQuery("get", fmt.Sprint(serial.Add(1)), randomID(r))).frame(t))
				begun += int(counts(t, p)["recursion_begun"] - before)
			}
			most := max(1, queries/2/8/paths) + int(time.Since(begin).Seconds()*float64(queries)/8/float64(paths)) + 1
			if begun == 0 || begun > most {
				t.Errorf("%d queries a second, %d paths: %d begun for who may be forged, want 1 to %d", queries, paths, begun, most)
			}
			takeAll(t, p)
		}
	}
}
