package conformance_test

import (
	"regexp"
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
		{"metrics", testMetrics},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			p.counted(t, func() { test.run(t, p) })
			p.unharmed(t)
		}) {
			return // what follows would fail for the same reason
		}
	}
}

// testMetrics makes sure that what was counted is in the metrics, too.
func testMetrics(t *testing.T, p *pair) {
	for i, n := range p.nodes {
		body := n.page(t, "/metrics")
		names := []string{`kdht_dropped_total{reason="malformed"}`, `kdht_dropped_total{reason="not_unicast"}`,
			`kdht_errors_sent_total{code="203"}`, `kdht_events_total{event="invalid_token",group="store"}`}
		if modes[i] != "off" {
			names = append(names, `kdht_kernel_datagrams_total{method="",reason="fragment"}`, `kdht_kernel_datagrams_total{method="ping",reason="answered"}`)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` [1-9]`).MatchString(body) {
				t.Errorf("--xdp %s: the metrics have no %s above 0", modes[i], name)
			}
		}
	}
}
