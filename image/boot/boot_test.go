package boot

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/appliance/status"
	"kdht/bpf/testenv"
	"kdht/image/vm"
	"kdht/router/krpc"
)

const (
	neighbours  = 4  // nodes that a box has on its LAN
	compactNode = 26 // bytes of a contact in a message
)

// TestBox boots every kind of machine from a fresh disk, has libtorrent store and find an item through it, cuts the power,
// boots again, presses the power button, and boots once more.
func TestBox(t *testing.T) {
	t.Parallel()
	for _, m := range []vm.Machine{vm.BIOS(), vm.UEFI(), vm.ARM64(), vm.Pi()} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, m, 2<<30)
			b.cpus = 2 // for a card with several queues in use
			testBox(t, b)
		})
	}
}

func testBox(t *testing.T, b *box) {
	python := testenv.NeedPython(t, "libtorrent")
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()

	r := b.on(ctx)
	t.Logf("status page after %.1f s, kernel %s", time.Since(b.Started()).Seconds(), r.Host.Kernel)
	r = b.wait(ctx, func(r status.Report) bool { return r.XDP.Active })
	t.Logf("kernel half attached after %.1f s", time.Since(b.Started()).Seconds())
	b.checkXDP(r)
	b.checkWeb(ctx)
	b.populate(ctx)
	b.checkKernel(ctx)

	t.Run("libtorrent", func(t *testing.T) {
		put := b.libtorrent(ctx, python, "put", netip.MustParseAddr("198.18.0.11"))
		value := []byte("from libtorrent through the box")
		target, stored, err := put.PutImmutable(ctx, value)
		must(t, err)
		t.Logf("libtorrent stored %s on %d nodes", target, stored)
		b.wait(ctx, func(r status.Report) bool { return r.Store.Items > 0 })
		get := b.libtorrent(ctx, python, "get", netip.MustParseAddr("198.18.0.12"))
		found, err := get.GetImmutable(ctx, target)
		must(t, err)
		if want := hex.EncodeToString(bencode(value)); found != want {
			t.Fatalf("libtorrent found %s, want %s", found, want)
		}
		b.holds(target, value)
	})

	b.checkMemory(ctx)
	value := []byte("stored right before the power went")
	target := b.put(value)
	must(t, b.PowerCut(vm.LoseAll()))
	b.on(ctx)
	b.holds(target, value)
	b.wait(ctx, func(r status.Report) bool { return contacts(r) >= neighbours })

	must(t, b.SwitchOff(ctx))
	b.quick(ctx)
}

// checkXDP checks that the kernel half runs as well as this kernel can.
func (b *box) checkXDP(r status.Report) {
	b.t.Helper()
	for _, n := range r.XDP.NICs {
		if n.Driver == "virtio_net" && (n.Mode != "native" || n.Reason != "") {
			b.t.Errorf("%s: XDP mode %s, reason %q", n.Name, n.Mode, n.Reason)
		}
	}
	want := map[string]string{"amd64": "interpreter", "arm64": "JIT"}[r.Host.Arch]
	if r.XDP.Execution != want {
		b.t.Errorf("BPF is run by %s, want %s", r.XDP.Execution, want)
	}
}

// checkWeb checks that the status page is at the port of other nodes as well.
func (b *box) checkWeb(ctx context.Context) {
	b.t.Helper()
	_, err := vm.WaitHTTP(ctx, b.VM, b.lan.HTTP(), "http://"+b.addr.String()+":8080/readyz", func(int, []byte) bool { return true })
	must(b.t, err)
}

// maxMemory bounds the memory of the whole system in use, in bytes.
const maxMemory = 120 << 20

// checkMemory checks what kernel and programs have taken of the memory.
func (b *box) checkMemory(ctx context.Context) {
	b.t.Helper()
	h := b.wait(ctx, func(status.Report) bool { return true }).Host
	used := h.Memory - h.MemoryAvailable
	b.t.Logf("memory in use: %.0f MiB of %.0f", float64(used)/(1<<20), float64(h.Memory)/(1<<20))
	if h.Memory == 0 || used > maxMemory {
		b.t.Errorf("memory in use: %d MiB of %d, want at most %d", used>>20, h.Memory>>20, maxMemory>>20)
	}
}

// populate starts the neighbours and waits until the box knows them.
func (b *box) populate(ctx context.Context) {
	b.t.Helper()
	binary, err := fleet.Build(ctx, b.dir)
	must(b.t, err)
	for i := range neighbours {
		addr := netip.AddrFrom4([4]byte{198, 18, 0, byte(21 + i)})
		must(b.t, b.lan.NS.IP("addr", "add", addr.String()+"/16", "dev", "br0"))
		name := fmt.Sprintf("neighbour%d", i)
		p, err := fleet.Start(b.lan.NS, b.dir, name, nil, nil, binary, "serve", "--state", b.dir+"/"+name, "--http", "off", "--xdp", "off",
			"--listen", addr.String()+":6881", "--bootstrap", b.port().String(), "--set", "external="+addr.String())
		must(b.t, err)
		b.t.Cleanup(func() { must(b.t, p.Stop(10*time.Second)) })
	}
	b.wait(ctx, func(r status.Report) bool { return r.Ready && contacts(r) >= neighbours })
}

// checkKernel checks that it is the kernel half that answers pings and find_nodes, from many addresses.
func (b *box) checkKernel(ctx context.Context) {
	b.t.Helper()
	before := b.wait(ctx, func(status.Report) bool { return true })
	const askers = 16
	for i := range askers {
		from := netip.AddrFrom4([4]byte{198, 18, 2, byte(1 + i)})
		must(b.t, b.lan.NS.IP("addr", "add", from.String()+"/16", "dev", "br0"))
		if _, err := ask(b.lan, from, b.port(), krpc.Message{Method: krpc.MethodPing}, patience); err != nil {
			b.t.Fatal(err)
		}
		m, err := ask(b.lan, from, b.port(), krpc.Message{Method: krpc.MethodFindNode, Target: krpc.ID{byte(i)}, HasTarget: true}, patience)
		must(b.t, err)
		if n := len(m.Nodes) / compactNode; n < neighbours {
			b.t.Errorf("find_node: %d contacts, want at least %d", n, neighbours)
		}
	}
	after := b.wait(ctx, func(status.Report) bool { return true })
	for _, query := range []string{"ping", "find_node"} {
		kernel := answered(after, query) - answered(before, query)
		user := received(after, query) - received(before, query)
		if kernel < askers || user > 0 {
			b.t.Errorf("%s: %d asked, %d answered by the kernel, %d came to user space", query, askers, kernel, user)
		}
	}
}

// libtorrent starts a session at an address of the LAN, which knows of the box alone.
func (b *box) libtorrent(ctx context.Context, python, name string, addr netip.Addr) *foreign.Libtorrent {
	b.t.Helper()
	must(b.t, b.lan.NS.IP("addr", "add", addr.String()+"/16", "dev", "br0"))
	l, err := foreign.StartLibtorrent(ctx, &fleet.Host{NS: b.lan.NS, IPv4: addr}, b.dir, name, python, b.port(), addr)
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, l.Close()) })
	_, err = l.WaitNodes(ctx, 1)
	must(b.t, err)
	return l
}

// put stores an item on the box itself and returns its target when the box has said that it is stored.
func (b *box) put(value []byte) string {
	b.t.Helper()
	target := sha1.Sum(bencode(value))
	m, err := ask(b.lan, vm.LANHost, b.port(), krpc.Message{Method: krpc.MethodGet, Target: target, HasTarget: true}, patience)
	must(b.t, err)
	token := m.Token
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) { // it asks for that where its disk is slow
		m, err = ask(b.lan, vm.LANHost, b.port(), krpc.Message{Method: krpc.MethodPut, V: bencode(value), Token: token}, patience)
		must(b.t, err)
		if m.Type != krpc.TypeError || m.Err.Code != krpc.ErrCodeServer || time.Now().After(end) {
			break
		}
	}
	if m.Type != krpc.TypeResponse {
		b.t.Fatalf("put: %+v", m.Err)
	}
	return hex.EncodeToString(target[:])
}

// holds checks that the box itself has an item.
func (b *box) holds(target string, value []byte) {
	b.t.Helper()
	id, err := krpc.ParseID(target)
	must(b.t, err)
	m, err := ask(b.lan, vm.LANHost, b.port(), krpc.Message{Method: krpc.MethodGet, Target: id, HasTarget: true}, patience)
	must(b.t, err)
	if string(m.V) != string(bencode(value)) {
		b.t.Errorf("the box answers %q for %s, want %q", m.V, target, value)
	}
}

// usefulWithin is what the program is given to be of use at the second boot, by a machine that has a CPU of this one for itself. On a
// machine that is not emulated it is a second.
const usefulWithin = 5 * time.Second

// quick switches the box on and measures how long after its start the program is of use: it answers with contacts, which
// it knows from last time, since its bootstrap nodes cannot be reached.
func (b *box) quick(ctx context.Context) {
	b.t.Helper()
	var err error
	b.VM, err = vm.Start(ctx, vm.Config{Machine: b.machine, CPUs: b.cpus, Disk: b.disk, NICs: []vm.NIC{b.nic}, Log: logFile(b.t, "quick")})
	must(b.t, err)
	q := krpc.Message{Method: krpc.MethodFindNode, Target: krpc.ID{1}, HasTarget: true}
	n, first := 0, time.Time{}
	for n < neighbours {
		m, err := ask(b.lan, vm.LANHost, b.port(), q, tooLong)
		must(b.t, err)
		must(b.t, ctx.Err())
		if n = len(m.Nodes) / compactNode; first.IsZero() {
			first = time.Now()
		}
	}
	useful := time.Now()
	busy, err := b.CPUTime()
	must(b.t, err)
	shares := max(1, useful.Sub(b.Started()).Seconds()/busy.Seconds()) // a boot is nothing but work, so others had the rest
	r := b.wait(ctx, func(status.Report) bool { return true })
	start := startedAt(r, time.Now())
	if d := useful.Sub(start); d.Seconds() > usefulWithin.Seconds()*shares {
		b.t.Errorf("of use %v after the program's start, want at most %v of a machine with %.2f of a CPU", d, usefulWithin, 1/shares)
	}
	b.t.Logf("after the program's start: an answer %.2f s, %d contacts %.2f s; that is %.1f s after power on; with %.2f of a CPU",
		first.Sub(start).Seconds(), n, useful.Sub(start).Seconds(), useful.Sub(b.Started()).Seconds(), 1/shares)
}

// bencode makes a byte string.
func bencode(b []byte) []byte { return fmt.Appendf(nil, "%d:%s", len(b), b) }
