package discover_test

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/bpf/testenv"
)

//go:embed foreign.py
var zeroconfScript string

// sighting is a line of the script.
type sighting struct {
	Kind, Name string
	Addrs      []string
	Port       int
	Text       map[string]string
}

// zeroconf runs the script beside whatever runs in a namespace. The function it returns waits for a line.
func zeroconf(t *testing.T, b *box, python, addr string, port int) (wait func(what string, ok func(sighting) bool) sighting) {
	t.Helper()
	cmd := exec.Command(python, "-c", zeroconfScript, addr, fmt.Sprint(port))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := b.ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	lines := make(chan sighting, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			var l sighting
			if json.Unmarshal(s.Bytes(), &l) == nil {
				lines <- l
			}
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		for range lines {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("zeroconf: %v: %s", err, errs.String())
		}
	})
	return func(what string, ok func(sighting) bool) sighting {
		t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case l, open := <-lines:
				if !open {
					t.Fatalf("%s: zeroconf has ended", what)
				}
				if ok(l) {
					return l
				}
			case <-timeout:
				t.Fatalf("%s: did not happen", what)
			}
		}
	}
}

// TestForeign has an implementation of others find nodes, on their own host, where it has port 5353 as well, and on
// another; and nodes find what it announces.
func TestForeign(t *testing.T) {
	testenv.NeedNetNS(t)
	python := testenv.NeedPython(t, "zeroconf")
	l := newLAN(t)
	far := newBox(t, "far")
	l.plug(far.ns, "eth0", "192.168.7.9/24")
	early := newBox(t, "early") // its host has a responder before it starts
	l.plug(early.ns, "eth0", "192.168.7.1/24", "fd00:7::1/64")
	beside := zeroconf(t, early, python, "192.168.7.1", 6881)
	beside("it announces something", func(s sighting) bool { return s.Kind == "registered" })
	early.start()
	there := zeroconf(t, far, python, "192.168.7.9", 7001)

	ids := func(b *box) (all []string) {
		for _, f := range b.status().Families {
			all = append(all, f.ID)
		}
		return all
	}
	var id []string
	until(t, "the node serves", func() bool { id = ids(early); return len(id) == 2 })
	whole := func(s sighting) bool {
		return s.Kind == "+" && slices.Equal(s.Addrs, []string{"192.168.7.1", "fd00:7::1"}) && s.Port == 6881 && s.Text["network"] == "private" &&
			s.Text["name"] == "kdht" && s.Text["id4"] == id[0] && s.Text["id6"] == id[1] && s.Text["families"] == "4,6" && s.Text["version"] != ""
	}
	seen := there("it is seen from afar", whole)
	beside("it is seen on its host", whole)

	second := newBox(t, "second") // its host has one later
	l.plug(second.ns, "eth0", "192.168.7.2/24")
	second.start()
	until(t, "a node finds the other node and the foreign ones", func() bool {
		return len(neighbours(second.report())["eth0"]) == 3
	})
	for _, n := range neighbours(second.report())["eth0"] {
		if n.Name == "foreign 7001" && (n.Version != "other" || n.Contact) {
			t.Errorf("foreign neighbour %+v", n)
		}
	}
	zeroconf(t, second, python, "192.168.7.2", 0)("another node is found beside one", whole)

	early.proc.Signal(syscall.SIGTERM)
	there("its goodbye is heard", func(s sighting) bool { return s.Kind == "-" && s.Name == seen.Name })
}
