package store_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"kdht/store"
)

// Killed at any moment, a store has everything that it acknowledged.
func TestKill(t *testing.T) {
	path := tempPath(t)
	var (
		acked   int
		items   []string
		seqs    = make(map[int]int64)
		holders = make(map[int][]store.Peer)
	)
	for run := range 8 {
		cmd, lines := child(t, "storm", path)
		deadline := 20 + rand.IntN(3000)
		n := 0
		for lines.Scan() {
			if n++; n == deadline {
				// The lines after this were acknowledged before the kill reached it.
				must(t, cmd.Process.Kill())
			}
			var (
				w    int
				seq  int64
				text string
				seed bool
			)
			line := lines.Text()
			if _, err := fmt.Sscanf(line, "immutable %s", &text); err == nil {
				items = append(items, text)
			} else if _, err := fmt.Sscanf(line, "mutable %d %d", &w, &seq); err == nil {
				seqs[w] = max(seqs[w], seq)
			} else if _, err := fmt.Sscanf(line, "peer %d %s %t", &w, &text, &seed); err == nil {
				holders[w] = append(holders[w], store.Peer{Addr: netip.MustParseAddrPort(text), Seed: seed})
			} else {
				t.Fatalf("child says %q", line)
			}
		}
		_ = cmd.Wait()
		if n < deadline {
			t.Fatalf("run %d: child ended after %d of %d writes", run, n, deadline)
		}
		acked += n

		s := open(t, path, stormOptions)
		if to, why := s.SetAside(); to != "" {
			t.Fatalf("run %d: file set aside: %s", run, why)
		}
		for _, name := range items {
			want := immutable(name)
			got, err := s.Item(want.Target)
			if err != nil || string(got.V) != string(want.V) {
				t.Errorf("run %d: acknowledged item %s: %v, %v", run, name, got, err)
			}
		}
		for w, seq := range seqs {
			got, err := s.Item(stormMutable(w, 0).Target)
			must(t, err)
			// One more may have been committed and not yet acknowledged.
			if got.Seq < seq || string(got.V) != string(stormMutable(w, got.Seq).V) {
				t.Errorf("run %d: mutable item %d: seq %d %q, acknowledged %d", run, w, got.Seq, got.V, seq)
			}
		}
		for w, want := range holders {
			got := peers(t, s, key(w), true, 0, false)
			for _, p := range want {
				if _, ok := slices.BinarySearchFunc(got, p, func(a, b store.Peer) int { return a.Addr.Compare(b.Addr) }); !ok {
					t.Errorf("run %d: acknowledged peer %v of %d is missing", run, p, w)
				}
			}
		}
		closeChecked(t, s)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d acknowledged writes, all there", acked)
}
