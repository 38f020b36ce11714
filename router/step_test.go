package router_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"kdht/router"
)

// The steps of a lookup tell whom it asked and on whose word, how each fared, and who had the item; they add up to what the
// lookup says that it cost.
func TestSteps(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, holders, others, it, fleet := resumable(t, s)
		for _, x := range holders[1:] { // one that has it is left, and the others are silent
			x.stop()
		}
		others[0].stop()
		var steps []router.Step
		r, err := n.FindNode(t.Context(), it.Target, router.WithSteps(func(x router.Step) { steps = append(steps, x) }))
		if err != nil {
			t.Fatal(err)
		}
		asked := make(map[netip.AddrPort]bool)
		answered := make(map[netip.AddrPort]bool)
		counts := make(map[router.StepKind]int)
		hops, last := 0, time.Duration(0)
		for _, x := range steps {
			counts[x.Kind]++
			if x.After < last {
				t.Errorf("a step at %v after one at %v", x.After, last)
			}
			last = x.After
			switch x.Kind {
			case router.StepAsked:
				asked[x.Node.Addr] = true
				if x.Referrer.IsValid() != (x.Hops > 0) || x.Referrer.IsValid() && !answered[x.Referrer] {
					t.Errorf("asked %v after %d hops on the word of %v", x.Node.Addr, x.Hops, x.Referrer)
				}
			case router.StepAnswered:
				answered[x.Node.Addr] = true
				hops = max(hops, x.Hops)
				if x.Bits != router.PrefixLen(it.Target, x.Node.ID) || x.Named == 0 || x.RTT <= 0 || x.Found {
					t.Errorf("%+v", x)
				}
			case router.StepFailed:
				if !errors.Is(x.Err, router.ErrTimeout) {
					t.Errorf("%+v", x)
				}
			}
			if x.Kind != router.StepAsked && !asked[x.Node.Addr] {
				t.Errorf("%v was not asked", x.Node.Addr)
			}
		}
		if c := r.Stats; counts[router.StepAsked] != c.Queried || counts[router.StepAnswered] != c.Answered || counts[router.StepFailed] != c.Failed || hops != c.Hops || counts[router.StepSlow] == 0 {
			t.Errorf("%v, %d hops, and %+v", counts, hops, c)
		}
		found := 0
		if _, err := n.GetImmutable(t.Context(), it.Target, router.WithSteps(func(x router.Step) {
			if x.Found {
				found++
				if x.Node.Addr != holders[0].addr && (x.Node.Addr != fleet[0].addr || !fleet[0].store.Holds(it.Target)) || x.Kind != router.StepAnswered {
					t.Errorf("%+v", x)
				}
			}
		})); err != nil || found != 1 {
			t.Errorf("%v, found %d times", err, found)
		}
		for _, x := range fleet {
			x.stop()
		}
	})
}
