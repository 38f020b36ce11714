package router_test

import (
	"testing"

	"kdht/router"
	"kdht/router/krpc"
)

// TestProbesAreNoQueries asks a node whether it answers, as the program does: it does, and says of queries that there was none
// until there is one.
func TestProbesAreNoQueries(t *testing.T) {
	n := startNode(t, t.TempDir(), router.Config{}, "127.11.0.1:0")
	a := newAsker(t, "127.11.0.2:0", n.addr)
	a.id = router.ProbeID
	a.wantDone("probe", krpc.Message{Method: krpc.MethodPing, ReadOnly: true})
	for _, group := range []string{"query received", "query answered"} {
		if got := counter(n.Stats(), group, "ping"); got != 0 {
			t.Errorf("a probe counts as %s %d times", group, got)
		}
	}
	if got := counter(n.Stats(), "health check", "received"); got != 1 {
		t.Errorf("%d health checks, want 1", got)
	}
	a.wantDone("find_node", krpc.Message{Method: krpc.MethodFindNode, HasTarget: true})
	a.id[0]++
	a.wantDone("ping", krpc.Message{Method: krpc.MethodPing})
	for _, query := range []string{"ping", "find_node"} {
		if got := counter(n.Stats(), "query received", query); got != 1 {
			t.Errorf("%d queries of %s, want 1", got, query)
		}
	}
}
