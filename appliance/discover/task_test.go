package discover_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"kdht/bpf/testenv"
)

// built is where the program is built.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "kdht-discover"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built) // a directory for temporary files is a good enough place for what cannot be removed
	os.Exit(code)
}

// TestFind lets nodes on one LAN find each other with no configuration, in both families, with the kernel half
// attached, and in either alone.
func TestFind(t *testing.T) {
	testenv.NeedXDP(t)
	for _, c := range []struct {
		name  string
		nodes int
		addrs func(n int) []string
		ipv6  bool
		xdp   string
	}{
		{"two", 2, func(n int) []string {
			return []string{fmt.Sprintf("192.168.7.%d/24", n), fmt.Sprintf("fd00:7::%d/64", n)}
		}, true, "native"},
		{"five over IPv4", 5, func(n int) []string { return []string{fmt.Sprintf("192.168.7.%d/24", n)} }, false, "off"},
		{"five over IPv6", 5, func(n int) []string { return []string{fmt.Sprintf("fd00:7::%d/64", n)} }, true, "off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLAN(t)
			var boxes []*box
			for n := range c.nodes {
				b := newBox(t, fmt.Sprintf("box%d", n+1))
				if l.plug(b.ns, "eth0", c.addrs(n+1)...); !c.ipv6 {
					if err := b.ns.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1"); err != nil {
						t.Fatal(err)
					}
				}
				boxes = append(boxes, b)
				b.start("--xdp", c.xdp)
			}
			know(t, boxes...)
			shares(t, boxes[0], boxes[len(boxes)-1])
			shares(t, boxes[len(boxes)-1], boxes[0])
			for _, b := range boxes {
				until(t, b.name+" is ready, and its kernel half as it should be", func() bool {
					r := b.status()
					return r.Ready && r.XDP.Active == (c.xdp != "off")
				})
			}
			sections := fmt.Sprint(boxes[0].status().Sections)
			for _, n := range neighbours(boxes[0].report())["eth0"] {
				if !strings.Contains(sections, "eth0, "+n.Name) || !strings.Contains(sections, n.Addresses[0].String()) {
					t.Errorf("the status does not tell of %s: %s", n.Name, sections)
				}
				if len(n.IPv4)+len(n.IPv6) == 0 || n.Version == "" || n.Last.Before(n.First) {
					t.Errorf("neighbour is %+v", n)
				}
			}
		})
	}
}
