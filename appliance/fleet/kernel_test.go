package fleet_test

import (
	"context"
	"testing"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
)

// answers counts the queries that a node has answered, of the kinds that its kernel half can answer.
type answers struct {
	kernel      map[string]uint64 // by method
	userSpace   map[string]uint64 // by method
	noRoom      uint64            // the driver left no room for the reply
	held        uint64            // what was asked for is held here
	otherReason uint64
}

var methods = []string{"ping", "find_node", "get_peers", "get"}

// count reads a node's counters.
func (m *mixed) count(ctx context.Context, t *testing.T, n *fleet.Node) answers {
	t.Helper()
	r, err := n.Status(ctx)
	must(t, err)
	a := answers{kernel: make(map[string]uint64), userSpace: make(map[string]uint64)}
	for _, c := range r.XDP.Counters {
		switch c.Reason {
		case "answered":
			a.kernel[c.Query] += c.Packets
		case "no_room":
			a.noRoom += c.Packets
		case "held":
			a.held += c.Packets
		}
	}
	for _, c := range r.Node {
		if c.Group == "query answered" {
			a.userSpace[c.Name] += c.Value
		}
	}
	wantNative(t, n, r)
	return a
}

// kernel checks that the kernel half of every node ran in native mode, and answered the bulk of the queries since
// it was attached.
func (m *mixed) kernel(ctx context.Context, t *testing.T) {
	sum := map[string]int64{}
	for i, n := range m.Nodes {
		now, before := m.count(ctx, t, n), m.before[i]
		for _, q := range methods {
			sum["kernel "+q] += int64(now.kernel[q] - before.kernel[q])
			sum["user "+q] += int64(now.userSpace[q] - before.userSpace[q])
		}
		sum["no_room"] += int64(now.noRoom - before.noRoom)
		sum["held"] += int64(now.held - before.held)
	}
	t.Log(sum)
}

func wantNative(t *testing.T, n *fleet.Node, r *status.Report) {
	t.Helper()
	if !r.XDP.Active {
		t.Errorf("%s: XDP is not active: %s", n.Name(), r.XDP.Reason)
	}
	for _, nic := range r.XDP.NICs {
		if nic.Name == "eth0" && nic.Mode != "native" {
			t.Errorf("%s: XDP mode of eth0 is %s: %s", n.Name(), nic.Mode, nic.Reason)
		}
	}
	if len(r.Problems) > 0 {
		t.Errorf("%s reports problems: %q", n.Name(), r.Problems)
	}
}
