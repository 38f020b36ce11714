package fleet_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/bpf/testenv"
)

// TestNewFails starts a fleet of nodes that end at once: the error has what they said, and nothing is left.
func TestNewFails(t *testing.T) {
	testenv.NeedXDP(t)
	binary, err := fleet.Build(t.Context(), t.TempDir()) // of the minute that the nodes have, a compiler takes nothing
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := namespaces(t)
	_, err = fleet.New(ctx, fleet.Options{Nodes: 2, Dir: t.TempDir(), Binary: binary, Args: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "--no-such-flag") {
		t.Errorf("error %v, want one that quotes the node's complaint", err)
	}
	for name := range namespaces(t) {
		if !before[name] && strings.HasPrefix(name, "kdht"+strconv.Itoa(os.Getpid())+"-") {
			t.Errorf("namespace %s is left behind", name)
		}
	}
}

// TestRestart restarts a node: its ID, which is in its state, stays, and the other one still finds it.
func TestRestart(t *testing.T) {
	testenv.NeedXDP(t)
	binary, err := fleet.Build(t.Context(), t.TempDir()) // of the minute that the nodes have, a compiler takes nothing
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, err := fleet.New(ctx, fleet.Options{Nodes: 2, Dir: t.TempDir(), Binary: binary})
	must(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	before, err := f.Nodes[1].Status(ctx)
	must(t, err)
	must(t, f.Nodes[1].Restart())
	must(t, f.Nodes[1].WaitReady(ctx))
	after, err := f.Nodes[1].Status(ctx)
	must(t, err)
	for i, family := range before.Families {
		if after.Families[i].ID != family.ID {
			t.Errorf("%s: ID %s after the restart, %s before", family.Family, after.Families[i].ID, family.ID)
		}
	}
	if after.PID == before.PID {
		t.Errorf("process %d was not restarted", before.PID)
	}
	out, err := f.Run(ctx, f.Nodes[0].Host, "ping", f.Nodes[1].Addr6.String())
	if err != nil || !strings.Contains(string(out), after.Families[1].ID) {
		t.Errorf("ping of the restarted node: %q, %v", out, err)
	}
}

// namespaces returns the named network namespaces.
func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir("/run/netns")
	must(t, err)
	names := make(map[string]bool)
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}
