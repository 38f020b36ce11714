package conformance_test

import (
	"testing"
)

// TestWire sends everything that is on record, and everything that is wrong, to a pair of nodes.
func TestWire(t *testing.T) {
	p := newPair(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *pair)
	}{
		{"recorded", testRecorded},
		{"syntax", testSyntax},
		{"fields", testFields},
		{"items", testItems},
		{"tokens", testTokens},
		{"frames", testFrames},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			p.counted(t, func() { test.run(t, p) })
			p.unharmed(t)
		}) {
			return // what follows would fail for the same reason
		}
	}
}
