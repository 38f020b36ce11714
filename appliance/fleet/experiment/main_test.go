package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// TestExperiment is the experiment on a small network: one datagram gets every item from every node that is tried, and
// whatever is wrong in the network, nobody gets another value than the true one, or no word.
func TestExperiment(t *testing.T) {
	testenv.NeedXDP(t)
	python := testenv.NeedPython(t, "libtorrent")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var said bytes.Buffer
	o := options{Nodes: 24, Bits: 1, Items: 80, Tried: 3, Delays: []time.Duration{0, time.Millisecond}, Gets: 10, Programs: 2, Faulty: 48, Share: 0.25, Seed: 1, Python: python}
	r, err := run(ctx, o, t.TempDir(), newProgress(&said))
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	t.Logf("%s", r.markdown())
	for again := range r.all {
		for v6 := range r.all[again] {
			if s := &r.all[again][v6]; s.total() == 0 || s.came[found] != s.total() {
				t.Errorf("of %d gets over IPv%d %d gave the true value", s.total(), 4+2*v6, s.came[found])
			}
		}
	}
	// A node that is tried holds two items of three itself, more or less as its ID happens to be.
	if n := r.kernel.replied + r.kernel.late; n < uint64(o.Items)/4 {
		t.Errorf("the kernel halves began %d recursions", n)
	}
	for delay, series := range r.timed {
		for name, s := range series {
			if len(s.odd) > 0 {
				t.Errorf("%s, links of %v: %s", name, delay, s.odd)
			}
			// The box may happen to hold it, but it is a link away itself.
			if took := quantile(s.took, 0); name == kernelFar && took < 2*delay {
				t.Errorf("%s, links of %v: found after %v", name, delay, took)
			}
		}
	}
	for _, s := range r.suffered {
		// Whoever names peers that nobody has announced is as good as one who knows some.
		madeUp := strings.HasSuffix(s.name, neverAnnounced) && (strings.Contains(s.name, "lie") || strings.HasPrefix(s.name, "all"))
		// Nobody can verify peers: where three liars have named some before anybody else, or everybody else's answers are late, the true
		// one is missing. Of 150 in a network of 200 it was twice.
		few := 0
		if strings.HasSuffix(s.name, announced) && (strings.Contains(s.name, "lie") || strings.HasPrefix(s.name, "all")) {
			few = s.total() / 8
		}
		if s.came[wrong] > few && !madeUp || s.came[refused] > 0 {
			t.Errorf("%s: %d other values, %d refusals", s.name, s.came[wrong], s.came[refused])
		}
		if s.came[silent] > 0 && !strings.Contains(s.name, "client") {
			t.Errorf("%s: %d of %d without an answer: %s", s.name, s.came[silent], s.total(), s.odd)
		}
		if strings.Contains(s.name, "never") == (s.came[found] > 0) {
			t.Errorf("%s: %d of %d found", s.name, s.came[found], s.total())
		}
	}
	for about, told := range r.told {
		for i, n := range told {
			if n == 0 {
				t.Errorf("%s: no liar was asked for %s", lies[i].name, []string{"items", "peers"}[about])
			}
		}
	}
}

// TestNear makes IDs that share a number of bits with a target.
func TestNear(t *testing.T) {
	target := krpc.ID(randomBytes(krpc.IDLen))
	for shared := range 8 * krpc.IDLen {
		if got := sharedBits(near(target, shared), target); got != shared {
			t.Errorf("shares %d bits, want %d", got, shared)
		}
	}
}
