package bpf_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// contactsIn cuts the contacts out of a reply.
func contactsIn(t testing.TB, reply []byte, key string, n int) []byte {
	t.Helper()
	head := fmt.Appendf(nil, "%s%d:", key, n)
	i := bytes.Index(reply, head)
	if i < 0 {
		t.Fatalf("no %q in %q", head, reply)
	}
	return reply[i+len(head):][:n]
}

// TestClosest compares the contacts in replies with those found by sorting the whole table.
func TestClosest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	sizes := []int{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 100, 159, 160, 161, 320, 640, 1000, 1270, 1280}
	for n := pairs(t, 100000) / 1000; len(sizes) < n; {
		sizes = append(sizes, r.IntN(1281))
	}
	for _, n := range sizes {
		s := snapshot(r, n, n)
		p := program(t, s)
		for range 20 {
			target := target(r, s)
			for _, ask := range []struct{ to, from netip.AddrPort }{{node4, asker4}, {node6, asker6}} {
				query := fmt.Appendf(nil, "d1:ad2:id20:%s6:target20:%s4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe", asker(r), target[:])
				d := queryTo(ask.to, ask.from, query)
				verdict, out := run(t, p, d.frame(t))
				if verdict != xdpTX {
					t.Fatalf("%d contacts, target %x: verdict %d", n, target, verdict)
				}
				want4, want6 := closest(s.ID4, target, s.Nodes4), closest(s.ID6, target, s.Nodes6)
				if got := contactsIn(t, out, "5:nodes", len(want4)); !bytes.Equal(got, want4) {
					t.Fatalf("%d contacts, self %x, target %x:\n got %x\nwant %x", n, s.ID4, target, got, want4)
				}
				if got := contactsIn(t, out, "6:nodes6", len(want6)); !bytes.Equal(got, want6) {
					t.Fatalf("%d contacts, self %x, target %x:\n got %x\nwant %x", n, s.ID6, target, got, want6)
				}
			}
		}
	}
}

func asker(r *rand.Rand) []byte {
	i := randomID(r)
	return i[:]
}
