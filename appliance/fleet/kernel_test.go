package fleet_test

import (
	"context"
	"testing"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
)

// answers counts the queries that a node, or all together, have answered.
type answers struct {
	kernel, userSpace map[string]uint64 // by method
	noRoom            uint64            // replies for which the driver left no room in the packet's buffer
}

// count reads the counters of all nodes, and checks that their kernel halves run in native mode.
func (m *mixed) count(ctx context.Context, t *testing.T) (all []answers) {
	t.Helper()
	for _, n := range m.Nodes {
		r, err := n.Status(ctx)
		must(t, err)
		wantNative(t, n, r)
		a := answers{kernel: make(map[string]uint64), userSpace: make(map[string]uint64)}
		for _, c := range r.XDP.Counters {
			switch c.Reason {
			case "answered":
				a.kernel[c.Query] += c.Packets
			case "no_room":
				a.noRoom += c.Packets
			}
		}
		for _, c := range r.Node {
			if c.Group == "query answered" {
				a.userSpace[c.Name] += c.Value
			}
		}
		all = append(all, a)
	}
	return all
}

// kernel checks that the kernel half of every node answered the bulk of the queries since the clients began.
func (m *mixed) kernel(ctx context.Context, t *testing.T) {
	sum := answers{kernel: make(map[string]uint64), userSpace: make(map[string]uint64)}
	var queries uint64
	for i, now := range m.count(ctx, t) {
		for method := range now.userSpace {
			k, u := now.kernel[method]-m.before[i].kernel[method], now.userSpace[method]-m.before[i].userSpace[method]
			sum.kernel[method] += k
			sum.userSpace[method] += u
			queries += k + u
		}
		noRoom := now.noRoom - m.before[i].noRoom
		sum.noRoom += noRoom
		k, u := now.kernel["find_node"]-m.before[i].kernel["find_node"], now.userSpace["find_node"]-m.before[i].userSpace["find_node"]
		if k == 0 || k+noRoom <= u {
			t.Errorf("%s: the kernel answered %d of %d find_node, want most; %d had no room", m.Nodes[i].Name(), k, k+u, noRoom)
		}
	}
	// Where netns cannot pad (before Linux 6.6), long replies have no room. The other methods need user space where
	// they find something.
	for _, method := range []string{"ping", "find_node"} {
		if k, u := sum.kernel[method], sum.userSpace[method]; k == 0 || u > sum.noRoom+k/10 {
			t.Errorf("the kernel answered %d of %d %s, want at least 9 of 10; %d had no room", k, k+u, method, sum.noRoom)
		}
	}
	t.Logf("answered in the kernel: %v, in user space: %v", sum.kernel, sum.userSpace)

	// Some clients ask again at once when they do not like an answer.
	if limit := uint64(5000 * fleetSize); queries > limit {
		t.Errorf("there were %d queries, which looks like a loop; some 1,000 for each node are usual", queries)
	}
}

// wantNative checks that a node's kernel half runs in native mode and that nothing is wrong.
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
