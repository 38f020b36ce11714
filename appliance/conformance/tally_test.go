package conformance_test

import (
	"strings"
	"testing"

	"kdht/router/krpc"
)

// readSize is how much of a datagram a node reads.
const readSize = 2048

// tally is what a node has to have counted, by the names of its counters.
type tally map[string]uint64

// note notes what became of a datagram.
func (c tally) note(b []byte, answer *krpc.Message) {
	var m krpc.Message
	err := krpc.Decode(b[:min(len(b), readSize)], &m)
	switch {
	case answer != nil && answer.Type == krpc.TypeError:
		c["error sent/"+wantError(answer.Err.Code)[len("error "):]]++
	case answer == nil && err == nil:
		c["reply/unknown transaction"]++ // a response or an error that nobody asked for
	case answer == nil:
		c["drop/malformed"]++
	}
}

// counted runs f, and makes sure that both nodes count every datagram in it that gets an error or silence.
func (p *pair) counted(t *testing.T, f func()) {
	t.Helper()
	var before [2]counters
	for i, n := range p.nodes {
		before[i] = n.counters(t)
	}
	p.tally = tally{}
	f()
	for i, n := range p.nodes {
		d := n.counters(t).since(before[i])
		for name, v := range d {
			want := p.tally[name]
			switch {
			case name == "reply/unknown transaction":
				if v < want { // what is sent again is answered twice
					t.Errorf("--xdp %s: %s has grown by %d, want %d or more", modes[i], name, v, want)
				}
			case name == "drop/malformed", strings.HasPrefix(name, "error sent/"):
				if v != want {
					t.Errorf("--xdp %s: %s has grown by %d, want %d", modes[i], name, v, want)
				}
			}
		}
	}
}
