package bpf_test

import (
	"bytes"
	"net/netip"
	"testing"

	"kdht/bpf/limit"
)

// TestProvenGrowth forges the address of who has proved to be there, as any DHT node has that is known here: replies much longer than
// their queries take several tokens of its own, in both halves alike, so that it gets no more than is meant for one source.
func TestProvenGrowth(t *testing.T) {
	cpu := onCPU(t)
	c := limit.Config{Rate: 0.01, Burst: 40, Growth: 1 << 20, Exempt: oneEach.Exempt}
	p, _ := limited(t, c)
	must(t, p.SetBudgets(usedUp))
	params := c.Params()
	both := []byte("d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe")
	for _, payload := range [][]byte{[]byte(findNode), both} {
		for _, end := range []struct{ to, from, exempt netip.AddrPort }{
			{node4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 50, byte(len(payload))}), 6881), netip.MustParseAddrPort("198.18.99.1:6881")},
			{node6, netip.AddrPortFrom(hostOf6(0x50+uint16(len(payload)), 1), 6881), netip.AddrPortFrom(hostOf6(0x99, 1), 6881)},
		} {
			must(t, p.Prove(end.from.Addr()))
			must(t, p.Prove(end.exempt.Addr()))
			h := limit.HashOf(p.Seed(), end.from.Addr())
			grown, longest, challenged, limitedToo := 0, 0, 0, 0
			for range 60 {
				set, err := p.Sources(h.Set())
				must(t, err)
				verdict, out := run(t, p, queryTo(end.to, end.from, payload).frame(t))
				now, err := p.Clock(cpu)
				must(t, err)
				ok, _ := set.Take(params, h, now, func() bool { return false })
				by := len(out) - len(queryTo(end.to, end.from, payload).frame(t))
				answered := verdict == xdpTX && bytes.Contains(out, []byte("5:nodes")) || bytes.Contains(out, []byte("6:nodes6"))
				switch {
				case !ok:
					limitedToo++
					if verdict != xdpDrop {
						t.Fatalf("verdict %d without a token", verdict)
					}
				case answered:
					grown, longest = grown+by, max(longest, by)
					if !set.Charge(params, h, by, now, func() bool { return false }) {
						t.Fatalf("answered with %d bytes more, user space would not", by)
					}
				default:
					challenged++
					if by > 0 || verdict != xdpTX {
						t.Errorf("verdict %d, %d bytes more", verdict, by)
					}
					if longest == 0 || set.Charge(params, h, longest, now, func() bool { return false }) {
						t.Errorf("challenged, user space would answer with %d bytes more", longest)
					}
				}
				if got, err := p.Sources(h.Set()); err != nil || got != set {
					t.Fatalf("set %x, user space has %x (%v)", got, set, err)
				}
			}
			if most := (c.Burst + 1) * limit.FreeGrowth; grown == 0 || grown > most {
				t.Errorf("%v got %d bytes more than it sent, want at most %d", end.from, grown, most)
			}
			if challenged+limitedToo == 0 {
				t.Error("no bound was reached")
			}
			for range 60 {
				if _, out := run(t, p, queryTo(end.to, end.exempt, payload).frame(t)); !bytes.Contains(out, []byte("nodes")) {
					t.Fatal("an exempt source is not answered")
				}
			}
		}
	}
}
