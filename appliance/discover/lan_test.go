package discover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/appliance/discover"
	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/bpf/netns"
)

// patience is how long something may take to be found; queries go out every half minute at least.
const patience = 45 * time.Second

// program builds the program once for all tests.
var program = sync.OnceValues(func() (string, error) { return fleet.Build(context.Background(), built) })

// lan is a bridge in a namespace of its own.
type lan struct {
	t     *testing.T
	ns    *netns.NS
	ports int
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, ns: netns.New(t, "lan")}
	do(t, l.ns, "link add br0 type bridge", "link set br0 up")
	return l
}

// plug joins an interface of a namespace to the LAN.
func (l *lan) plug(ns *netns.NS, name string, addrs ...string) {
	l.t.Helper()
	l.ports++
	port := fmt.Sprintf("port%d", l.ports)
	end := netns.End{NS: ns, Name: name}
	for _, a := range addrs {
		end.Addrs = append(end.Addrs, netip.MustParsePrefix(a))
	}
	netns.Veth(l.t, end, netns.End{NS: l.ns, Name: port, Pass: true})
	do(l.t, l.ns, "link set "+port+" master br0")
}

// do runs ip commands in a namespace.
func do(t *testing.T, ns *netns.NS, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := ns.IP(strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
}

// box is a node in a namespace.
type box struct {
	t    *testing.T
	name string
	ns   *netns.NS
	proc *fleet.Process
	http http.Client
}

// newBox makes a namespace for a node.
func newBox(t *testing.T, name string) *box {
	t.Helper()
	b := &box{t: t, name: name, ns: netns.New(t, name)}
	b.http.Timeout = 10 * time.Second
	b.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = b.ns.Do(func() (err error) { c, err = (&net.Dialer{}).DialContext(ctx, network, addr); return err })
		return c, err
	}}
	return b
}

// start starts the node with no configuration beside that the network is a private one.
func (b *box) start(args ...string) {
	b.t.Helper()
	path, err := program()
	if err != nil {
		b.t.Fatal(err)
	}
	dir := b.t.TempDir()
	argv := append([]string{path, "serve", "--network", "private", "--state", filepath.Join(dir, "state"), "--xdp", "off"}, args...)
	if b.proc, err = fleet.Start(b.ns, dir, b.name, nil, nil, argv...); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := b.proc.Stop(20 * time.Second); err != nil {
			b.t.Error(err)
		}
		if b.t.Failed() || testing.Verbose() {
			b.t.Logf("%s:\n%s", b.name, b.proc.Log(8192))
		}
	})
}

// get gets a document of the node as JSON, and reports whether it could be had.
func (b *box) get(path string, v any) bool {
	resp, err := b.http.Get("http://127.0.0.1:8080" + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v) == nil
}

func (b *box) status() (r status.Report) {
	b.get("/status?format=json", &r)
	return r
}

func (b *box) report() (r discover.Report) {
	b.get(discover.Path, &r)
	return r
}

// until waits until something holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := fleet.Poll(ctx, 50*time.Millisecond, func() (bool, error) { return ok(), nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// neighbours returns all neighbours, by the interface that they were heard on.
func neighbours(r discover.Report) map[string][]discover.Neighbour {
	all := make(map[string][]discover.Neighbour)
	for _, i := range r.Interfaces {
		if len(i.Neighbours) > 0 {
			all[i.Name] = i.Neighbours
		}
	}
	return all
}

// event returns a counter.
func event(r discover.Report, name string) uint64 {
	for _, e := range r.Events {
		if e.Event == name {
			return e.Count
		}
	}
	return 0
}

// good returns how many good contacts a node has in the family where it has most.
func (b *box) good() (most int) {
	for _, f := range b.status().Families {
		most = max(most, f.Good)
	}
	return most
}

// know waits until nodes all know each other: as neighbours, and as contacts of their tables.
func know(t *testing.T, boxes ...*box) {
	t.Helper()
	for _, b := range boxes {
		until(t, b.name+" knows all others", func() bool {
			found := neighbours(b.report())["eth0"]
			for _, n := range found {
				if !n.Contact {
					return false
				}
			}
			return len(found) == len(boxes)-1 && b.good() == len(boxes)-1
		})
	}
}

// client runs a client command beside a node, with it as bootstrap node.
func (b *box) client(command string, args ...string) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	addr := "127.0.0.1:6881"
	if len(b.status().Families) == 1 && b.status().Families[0].Family == "IPv6" {
		addr = "[::1]:6881"
	}
	argv := append([]string{command, "--network", "private", "--bootstrap", addr}, args...)
	cmd := exec.Command(path, argv...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := b.ns.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("%w: %s", err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// shares puts an item beside one node and gets it beside another.
func shares(t *testing.T, from, to *box) {
	t.Helper()
	value := "from " + from.name + " to " + to.name
	target, err := from.client("put", value)
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if got, err := to.client("get", target); err != nil || got != value {
		t.Errorf("get %s = %q, %v, want %q", target, got, err, value)
	}
}
