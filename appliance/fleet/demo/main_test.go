package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/bpf/testenv"
)

// TestDemo runs the demo as a user does and reads what it shows, then sees that nothing is left of it.
func TestDemo(t *testing.T) {
	testenv.NeedXDP(t)
	dir := t.TempDir()
	binary, err := fleet.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	demo := filepath.Join(dir, "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", demo, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // of which a compiler takes nothing
	defer cancel()
	cmd := exec.CommandContext(ctx, demo, "--binary", binary, "--nodes", "5", "--duration", "20s")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	if n := len(regexp.MustCompile(`(?m)^198\.18\.\d+\.1 +[0-9a-f]{8} `).FindAllString(text, -1)); n != 5 {
		t.Errorf("%d nodes shown, want 5:\n%s", n, text)
	}
	for _, want := range []string{`XDP on 5 nodes`, `; gets: [1-9]\d* found, 0 not`, `(?m)^  ip netns exec \S+ \S+ put --bootstrap `} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "kdht-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	for _, ns := range regexp.MustCompile(`ip netns exec (\S+)`).FindAllStringSubmatch(text, -1) {
		if err := unix.Access("/run/netns/"+ns[1], unix.F_OK); err == nil {
			t.Errorf("namespace %s is left behind", ns[1])
		}
	}
}

// TestRender lays out fleets on small and large screens: what cannot be shown is said.
func TestRender(t *testing.T) {
	testenv.NeedNetNS(t)
	network, err := fleet.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := network.AddHost("node")
	if err != nil {
		t.Fatal(err)
	}
	v := &view{fleet: &fleet.Fleet{Binary: "/bin/kdht"}, clients: new(clients), started: time.Now(), rows: make([]row, 30)}
	for range v.rows {
		v.fleet.Nodes = append(v.fleet.Nodes, &fleet.Node{Host: host})
	}
	for _, test := range []struct{ width, height int }{{80, 24}, {80, 16}, {60, 24}, {200, 60}} {
		picture := v.render(test.width, test.height, "\n")
		lines := strings.Count(picture, "\n")
		nodes := strings.Count(picture, "does not answer")
		if lines > test.height {
			t.Errorf("%dx%d: %d lines", test.width, test.height, lines)
		}
		if m := regexp.MustCompile(`and (\d+) more`).FindString(picture); (nodes < 30) != (m != "") {
			t.Errorf("%dx%d: %d of 30 nodes shown, and %q said", test.width, test.height, nodes, m)
		}
	}
	// What 20 nodes do in an hour fits on 80 columns.
	report := &status.Report{}
	report.XDP.Active, report.Store.Items = true, 400
	v.rows = make([]row, 20)
	for i := range v.rows {
		v.rows[i] = row{report: report, kernel: rate{total: 360_000, perSecond: 100}, user: rate{total: 108_000, perSecond: 30}}
	}
	v.clients.found, v.clients.took = 9_999, 200*time.Millisecond
	for _, line := range v.foot()[1:3] {
		if len(line) >= 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
