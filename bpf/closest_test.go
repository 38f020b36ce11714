package bpf_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"kdht/bpf"
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
	sizes := []int{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 100, 159, 160, 161, 320, 640, 1000, 1270, 1280, 2000, 4096}
	for n := pairs(t, 100000) / 1000; len(sizes) < n; {
		sizes = append(sizes, r.IntN(2000))
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
				want4, want6 := closest(s.Bits, s.ID4, target, s.Nodes4), closest(s.Bits, s.ID6, target, s.Nodes6)
				if got := contactsIn(t, out, "5:nodes", len(want4)); !bytes.Equal(got, want4) {
					t.Fatalf("%d contacts, b = %d, self %x, target %x:\n got %x\nwant %x", n, s.Bits, s.ID4, target, got, want4)
				}
				if got := contactsIn(t, out, "6:nodes6", len(want6)); !bytes.Equal(got, want6) {
					t.Fatalf("%d contacts, b = %d, self %x, target %x:\n got %x\nwant %x", n, s.Bits, s.ID6, target, got, want6)
				}
			}
		}
	}
}

func asker(r *rand.Rand) []byte {
	i := randomID(r)
	return i[:]
}

// TestPublishChanges publishes tables that differ little from the one before, as a node does, and some that are refused in
// between: what is left as it was must be what belongs there.
func TestPublishChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for b := 1; b <= bpf.MaxBits; b++ {
		s := wideSnapshot(r, b, 600, 600)
		for range max(4, pairs(t, 100000)/4000) {
			p, v := program(t, s), view(t, s)
			for range 10 {
				_, payload := query(r, s)
				if d := datagramFor(r, payload); !compare(t, p, v, d) {
					t.Fatalf("b = %d: not answered: %q", b, payload)
				}
			}
			next := *s
			next.Nodes4, next.Nodes6 = slices.Clone(s.Nodes4), slices.Clone(s.Nodes6)
			twice := next
			twice.Nodes4 = append(slices.Clone(next.Nodes4[1:]), next.Nodes4[len(next.Nodes4)-1])
			if err := p.Publish(&twice); !errors.Is(err, bpf.ErrSnapshot) {
				t.Fatalf("Publish of an ID twice = %v", err)
			}
			for range r.IntN(5) {
				i, j := r.IntN(len(next.Nodes4)), r.IntN(len(next.Nodes6))
				switch r.IntN(4) {
				case 0:
					next.Nodes4, next.Nodes6 = slices.Delete(next.Nodes4, i, i+1), slices.Delete(next.Nodes6, j, j+1)
				case 1:
					next.Nodes4[i][25]++ // another port
					next.Nodes6[j][21]++ // another address
				case 2: // to the end of the bucket
					c4, c6 := next.Nodes4[i], next.Nodes6[j]
					next.Nodes4 = append(slices.Delete(next.Nodes4, i, i+1), c4)
					next.Nodes6 = append(slices.Delete(next.Nodes6, j, j+1), c6)
				default:
					other := wideSnapshot(r, b, 20, 20)
					other.ID4, other.ID6 = s.ID4, s.ID6
					other.Nodes4 = append(slices.Clone(next.Nodes4), other.Nodes4[:10]...)
					other.Nodes6 = append(slices.Clone(next.Nodes6), other.Nodes6[:10]...)
					if other.Check() == nil {
						next = *other
					}
				}
			}
			s = &next
		}
	}
}
