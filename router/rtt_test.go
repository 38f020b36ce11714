package router_test

import (
	"testing"
	"time"

	"kdht/router"
)

// A query that was lost and sent again says nothing about round-trip times by the time since it was first sent: the patience
// with silent nodes follows from how long answers take, not from how many are lost.
func TestLossIsNotSlowness(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		s.setLatency(10*time.Millisecond, 12*time.Millisecond) // one way
		fleet := s.startSim(t, 40, router.IPv4)
		n := fleet[7]
		quiet := n.HopPatience()
		if quiet > 50*time.Millisecond {
			t.Fatalf("without loss: patience %v at round trips of 20 to 24 ms", quiet)
		}
		s.setLoss(0.2)
		for i := range byte(60) {
			if _, err := n.FindNode(t.Context(), router.ID{i * 4, i}); err != nil {
				t.Fatal(err)
			}
			if p := n.HopPatience(); p > 2*quiet {
				t.Fatalf("after %d lookups among losses of a fifth: patience %v, %v without", i+1, p, quiet)
			}
		}
		stopAll(fleet)
	})
}
