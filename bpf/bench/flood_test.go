package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// floodTime is how long the flood lasts: KDHT_FLOOD, or 2 s, and until the clients have asked a hundred times.
func floodTime(t *testing.T) time.Duration {
	s := os.Getenv("KDHT_FLOOD")
	if s == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("KDHT_FLOOD: %v", err)
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var floodNode6 = netip.MustParseAddrPort("[2001:db8:0:19::1]:6881")

const (
	// leastAsked is how much each client asks in the flood, and lossAllowed how much of it may go unanswered. Besides, each may be asked once to
	// prove its address: those whom the kernel half cannot answer alone always are.
	leastAsked  = 100
	lossAllowed = 0.01
	// mostGrown is how much more memory the program may occupy after the flood.
	mostGrown = 16 << 20
)

// floodRig is a node with its default limits, at two links: the flood comes by the first, at which nobody else is.
type floodRig struct {
	*rig
	lan    *lan
	pid    int
	routes []route
}

// newFloodRig starts the node and waits until it knows the nodes at its second link.
func newFloodRig(t testing.TB) *floodRig {
	t.Helper()
	return newFloodRigOf(t, buildNode(t), lanPace)
}

// buildNode builds the program.
func buildNode(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kdht")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, "kdht/appliance/kdht").CombinedOutput(); err != nil {
		t.Fatalf("build kdht: %v\n%s", err, out)
	}
	return binary
}

// newFloodRigOf does as newFloodRig with a program that is built already, and sends a node so many queries a second at most.
func newFloodRigOf(t testing.TB, binary string, pace int) *floodRig {
	t.Helper()
	testenv.NeedXDP(t)
	r, err := newRig()
	must(t, err)
	t.Cleanup(func() { must(t, r.close()) })
	must(t, r.gen.Batch("addr add 2001:db8:0:19::2/64 dev "+genIf+" nodad", "neigh replace "+floodNode6.Addr().String()+" lladdr 02:00:00:00:00:01 nud permanent dev "+genIf))
	must(t, r.node.Batch(
		"addr add "+floodNode6.Addr().String()+"/64 dev "+nodeIf+" nodad",
		"neigh replace 2001:db8:0:19::2 lladdr 02:00:00:00:00:02 nud permanent dev "+nodeIf,
		"route add 0.0.0.0/0 via "+genAddr.Addr().String(), "route add ::/0 via 2001:db8:0:19::2"))
	f := &floodRig{rig: r, lan: r.newLAN(t)}
	for _, ends := range [][2]netip.AddrPort{{genAddr, nodeAddr}, {netip.MustParseAddrPort("[2001:db8:0:19::2]:39936"), floodNode6}} {
		f.routes = append(f.routes, route{endpoint{[6]byte(r.genDev.HardwareAddr), ends[0]}, endpoint{[6]byte(r.nodeDev.HardwareAddr), ends[1]}})
	}
	dir := t.TempDir()
	r.binary = binary
	var log strings.Builder
	cmd := exec.Command(r.binary, "serve", "--state", filepath.Join(dir, "state"), "--http", "127.0.0.1:8080",
		"--bootstrap", f.lan.nodes[0].nodes[0].addr.String(), "--bootstrap", f.lan.nodes[1].nodes[0].addr.String(),
		"--set", fmt.Sprint("limits.queriesPerNode=", pace),
		"--listen", nodeAddr.String(), "--listen", floodNode6.String(), "--interface", nodeIf, "--interface", lanNodeIf, "--xdp", "native")
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, r.node.Start(cmd))
	f.pid = cmd.Process.Pid
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(unix.SIGTERM))
		_ = cmd.Wait() // its output says more than its exit code
		if t.Failed() {
			t.Logf("%s", log.String())
		}
	})
	waitFor(t, "the kernel half, and the nodes in the tables", func() bool {
		for _, nodes := range f.lan.nodes {
			nodes.greet()
		}
		s, err := r.status()
		full := 0
		for _, f := range s.Families {
			if f.Contacts >= lanNodes*3/4 {
				full++
			}
		}
		return err == nil && s.XDP.Active && len(s.XDP.Endpoints) >= 2 && full == 2
	})
	return f
}

// getOf has a client get items, each of which is what its target says.
func getOf(target func() krpc.ID, recursive bool) func() (krpc.Message, func(*krpc.Message) bool) {
	return func() (krpc.Message, func(*krpc.Message) bool) {
		t := target()
		return krpc.Message{Method: krpc.MethodGet, Target: t, HasTarget: true, Recursive: recursive},
			func(m *krpc.Message) bool { return krpc.ImmutableTarget(m.V) == t }
	}
}

// TestFlood floods a node that runs with its default limits from random forged sources of both families, public and private ones, at the
// generator's maximum: with queries that the kernel half could answer, ones that only user space can, ones that make the node ask
// others, and garbage. Meanwhile of what well-behaved clients at another link ask, 99 % of the first datagrams are answered, but for one for
// which a client may be asked to prove its address; user space rests, memory stays, and the victims get hardly more bytes than the flood has.
func TestFlood(t *testing.T) {
	r := newFloodRig(t)
	t.Run("victims", r.victims)
	t.Run("clients", r.clients)
}

// clients floods the node while clients ask.
func (r *floodRig) clients(t *testing.T) {
	hot, cold := r.put(t, "hot", true), r.put(t, "cold", false)
	var clients []*client
	for i, family := range []string{"IPv4", "IPv6"} {
		walk := 0
		find := func() (krpc.Message, func(*krpc.Message) bool) {
			var target krpc.ID
			for j := range target {
				target[j] = byte(rand.Uint32())
			}
			nodes := func(m *krpc.Message) bool { return len(m.Nodes) == 8*26 || len(m.Nodes6) == 8*38 }
			if walk++; walk%2 == 0 {
				return krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}, nodes
			}
			return krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true}, nodes
		}
		known := r.lan.client(t, family+", who has asked before", lanPlain[i], find)
		known.ask(t)
		clients = append(clients, known,
			r.lan.client(t, family+", new", lanFresh[i], find),
			r.lan.client(t, family+", rd, a hot item", lanTrusted[i], getOf(func() krpc.ID { return hot }, true)),
			r.lan.client(t, family+", rd, items of other nodes", lanTrusted2[i], getOf(r.lan.items.add, true)))
		clients[len(clients)-1].pause = 80 * time.Millisecond // each costs user space a millisecond
	}
	for _, c := range clients { // before
		for range 25 {
			c.ask(t)
		}
		if c.answered.Load() < 25 {
			t.Fatalf("without a flood, %v", c)
		}
		c.reset()
	}
	// What the clients have user space do costs more on busy cores: so much, in a flood that never gets there.
	pings := newFlood(r.sock, []forgery{plainPing}, r.routes...)
	elapsed, used := r.under(t, pings, clients, func(elapsed time.Duration) bool { return elapsed >= 4*time.Second })
	for _, c := range clients {
		c.reset()
	}
	r.flooded(t, newFlood(r.sock, slices.DeleteFunc(forgeries(string(cold[:]), string(hot[:])), func(f forgery) bool { return !floodKinds(t).MatchString(f.name) }), r.routes...), clients, used.Seconds()/elapsed.Seconds())
}

// floodKinds are the kinds of datagrams that are sent: those whose name KDHT_FLOOD_KINDS matches, or all.
func floodKinds(t *testing.T) *regexp.Regexp {
	kinds, err := regexp.Compile(os.Getenv("KDHT_FLOOD_KINDS"))
	must(t, err)
	return kinds
}

// under floods the node while clients ask, until it is enough, and returns how long that took, and what CPU time of user space.
func (r *floodRig) under(t *testing.T, fl *flood, clients []*client, enough func(elapsed time.Duration) bool) (elapsed, used time.Duration) {
	t.Helper()
	cpu := cpuOf(t, r.pid)
	var done atomic.Bool
	var asking sync.WaitGroup
	for _, c := range clients {
		asking.Go(func() {
			for !done.Load() {
				c.ask(t)
				time.Sleep(c.pause)
			}
		})
	}
	must(t, r.pin())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // the flood has a thread for itself
	begin := time.Now()
	func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var old unix.CPUSet
		must(t, unix.SchedGetaffinity(0, &old))
		defer func() { must(t, unix.SchedSetaffinity(0, &old)) }()
		must(t, setCore(0, genCore))
		must(t, fl.run(enough))
	}()
	elapsed, used = time.Since(begin), cpuOf(t, r.pid)-cpu
	done.Store(true)
	asking.Wait()
	fl.collect()
	return elapsed, used
}

// flooded floods the node while clients ask, and judges what becomes of it; theirs is what of a core user space takes for the clients.
func (r *floodRig) flooded(t *testing.T, fl *flood, clients []*client, theirs float64) {
	t.Helper()
	before, err := r.status()
	must(t, err)
	rss, lost, d := rssOf(t, r.pid), r.drops(t), floodTime(t)
	elapsed, used := r.under(t, fl, clients, func(elapsed time.Duration) bool {
		enough := !slices.ContainsFunc(clients, func(c *client) bool { return c.asked.Load() < leastAsked })
		return elapsed >= d && enough || elapsed >= d+time.Minute
	})
	grown, core := rssOf(t, r.pid)-rss, used.Seconds()/elapsed.Seconds()
	after, err := r.status()
	must(t, err)
	t.Logf("%.0f datagrams/s, %d in %v; user space took %.3f of a core, %.3f of it for the clients, memory grew by %d KiB to %d", float64(fl.sent)/elapsed.Seconds(), fl.sent,
		elapsed.Round(time.Millisecond), core, theirs, grown>>10, (rss+grown)>>10)
	t.Logf("%d bytes back for %d: %.3f; kernel: %s", fl.gotBytes, fl.sentBytes, float64(fl.gotBytes)/float64(fl.sentBytes), difference(before, after))
	t.Logf("lost meanwhile: %s", increase(lost, r.drops(t)))
	for _, c := range clients {
		t.Log(c)
		asked := c.asked.Load()
		if missed := asked - c.answered.Load() - min(1, c.challenged.Load()); asked < leastAsked || float64(missed) > lossAllowed*float64(asked) {
			t.Errorf("a client was not served: %v", c)
		}
	}
	if core-theirs > 0.1 {
		t.Errorf("the flood took %.3f of a core of user space", core-theirs)
	}
	if grown > mostGrown {
		t.Errorf("memory grew by %d bytes", grown)
	}
	if budget := int((elapsed + 2*time.Second).Seconds() * (512 << 10)); fl.gotBytes > fl.sentBytes+budget {
		t.Errorf("%d bytes back for %d", fl.gotBytes, fl.sentBytes)
	}
}

// put stores an item of 300 bytes at the node, and returns its target.
func (r *floodRig) put(t *testing.T, name string, hot bool) krpc.ID {
	t.Helper()
	text := strings.Repeat(name, 300/len(name))
	v := fmt.Appendf(nil, "%d:%s", len(text), text)
	ask := r.store(t, v)
	if hot {
		waitFor(t, "a hot item", func() bool {
			before, err := r.status()
			must(t, err)
			ask()
			after, err := r.status()
			must(t, err)
			return strings.Contains(difference(before, after), "hot")
		})
	}
	return krpc.ImmutableTarget(v)
}

// store stores an item at the node, from an address at the link, which thereby is shown to be there. It returns a function that asks for it as often as
// makes it hot.
func (r *floodRig) store(t *testing.T, v []byte) (ask func()) {
	t.Helper()
	var conn net.Conn
	must(t, r.lan.ns.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lanAddrs[0].Addr(), 0)), net.UDPAddrFromAddrPort(nodeAddr))
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	get := krpc.Message{Method: krpc.MethodGet, Target: krpc.ImmutableTarget(v), HasTarget: true}
	got, err := exchange(conn, get)
	must(t, err)
	_, err = exchange(conn, krpc.Message{Method: krpc.MethodPut, Token: got.Token, V: v})
	must(t, err)
	return func() {
		for range itemAsks {
			_, err := exchange(conn, get)
			must(t, err)
		}
	}
}

// drops counts the datagrams that were lost around the node, by where.
func (r *floodRig) drops(t *testing.T) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	b, err := os.ReadFile("/proc/net/softnet_stat") // of all namespaces: frames processed, dropped because the backlog was full, ...
	must(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		n, err := strconv.ParseUint(strings.Fields(line)[1], 16, 64)
		must(t, err)
		all["backlog"] += n
	}
	for name, end := range map[string]*netns.NS{nodeIf: r.node, lanNodeIf: r.node, genIf: r.gen, lanIf: r.lan.ns} {
		out, err := end.Output("ip", "-s", "-j", "link", "show", "dev", name)
		must(t, err)
		var links []struct {
			Stats struct {
				RX, TX struct{ Dropped uint64 }
			} `json:"stats64"`
		}
		must(t, json.Unmarshal(out, &links))
		all[name+" rx"], all[name+" tx"] = links[0].Stats.RX.Dropped, links[0].Stats.TX.Dropped
	}
	for name, end := range map[string]*netns.NS{"node": r.node, "lan": r.lan.ns} {
		out, err := end.Output("cat", "/proc/net/snmp", "/proc/net/snmp6")
		must(t, err)
		var names []string
		for _, line := range strings.Split(string(out), "\n") {
			fields := strings.Fields(line)
			switch {
			case len(fields) == 2 && fields[0] == "Udp6RcvbufErrors":
				n, err := strconv.ParseUint(fields[1], 10, 64)
				must(t, err)
				all[name+" socket buffer IPv6"] = n
			case len(fields) > 1 && fields[0] == "Udp:" && names == nil:
				names = fields
			case len(fields) > 1 && fields[0] == "Udp:":
				n, err := strconv.ParseUint(fields[slices.Index(names, "RcvbufErrors")], 10, 64)
				must(t, err)
				all[name+" socket buffer"] = n
			}
		}
	}
	return all
}

// increase lists by how much counters have moved.
func increase(before, after map[string]uint64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if n := after[name] - before[name]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, n))
		}
	}
	return strings.Join(all, ", ")
}

func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// status is the status page of the node.
func (r *rig) status() (s status.Report, err error) {
	h := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = r.node.Do(func() error { c, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return c, err
	}}}
	resp, err := h.Get("http://127.0.0.1:8080/status?format=json")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// difference lists by how much the kernel's counters have moved.
func difference(before, after status.Report) string {
	old := map[string]uint64{}
	for _, c := range before.XDP.Counters {
		old[c.Reason+c.Query] = c.Packets
	}
	var all []string
	for _, c := range after.XDP.Counters {
		if n := c.Packets - old[c.Reason+c.Query]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", strings.TrimSpace(c.Reason+" "+c.Query), n))
		}
	}
	return strings.Join(all, ", ")
}

// cpuOf is the CPU time that a process has used.
func cpuOf(t testing.TB, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		field, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		sum += time.Duration(n)
	}
	return sum
}

// rssOf is the memory that a process occupies, in bytes.
func rssOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	must(t, err)
	return pages * os.Getpagesize()
}
