package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"kdht/appliance/status"
	"kdht/image/vm"
)

// tooLong is how long what happens on a box may take that shares this machine with others, before it counts as hung.
const tooLong = 20 * time.Minute

// box is an appliance on a LAN of its own: a disk, and the machine that runs from it, one after the other.
type box struct {
	t       *testing.T
	machine vm.Machine
	disk    *vm.Disk
	lan     *vm.LAN
	dir     string
	mac     string
	nic     vm.NIC
	cpus    int // the emulator computes in one thread: a second one makes a machine slower, and its start less sure
	boots   int
	stayOff bool // when it restarts

	*vm.VM
	addr netip.Addr
}

// newBox makes a box with a new disk of the given size in bytes; it is not switched on.
func newBox(t *testing.T, m vm.Machine, size int64) *box {
	t.Helper()
	need(t, m)
	b := &box{t: t, machine: m, dir: t.TempDir(), mac: "52:54:00:00:00:01", cpus: 1}
	var err error
	b.disk, err = vm.NewDisk(filepath.Join(b.dir, "disk.img"), image(t, m.Instance).Path, size)
	must(t, err)
	t.Cleanup(func() { must(t, b.disk.Close()) })
	b.lan, err = vm.NewLAN("boot", b.dir)
	must(t, err)
	t.Cleanup(func() { must(t, b.lan.Close()) })
	b.nic, err = b.lan.NIC(b.mac)
	must(t, err)
	t.Cleanup(func() {
		if b.VM != nil {
			must(t, b.PowerCut(vm.LoseAll()))
		}
	})
	return b
}

// on switches the box on and waits until its status page answers.
func (b *box) on(ctx context.Context) status.Report {
	b.t.Helper()
	b.boots++
	var err error
	b.VM, err = vm.Start(ctx, vm.Config{
		Machine: b.machine, CPUs: b.cpus, Disk: b.disk, NICs: []vm.NIC{b.nic}, Log: logFile(b.t, fmt.Sprintf("boot%d", b.boots)),
		StayOff: b.stayOff,
	})
	must(b.t, err)
	b.addr, err = b.lan.Lease(ctx, b.mac)
	must(b.t, err)
	return b.wait(ctx, func(status.Report) bool { return true })
}

// wait waits until the status is as wanted.
func (b *box) wait(ctx context.Context, ok func(status.Report) bool) (r status.Report) {
	b.t.Helper()
	_, err := vm.WaitHTTP(ctx, b.VM, b.lan.HTTP(), "http://"+b.addr.String()+"/status", func(code int, body []byte) bool {
		r = status.Report{}
		return code == 200 && json.Unmarshal(body, &r) == nil && ok(r)
	})
	if err != nil {
		b.t.Fatalf("%v; console:\n%s", err, b.Console.Last(30))
	}
	return r
}

// port is where the node answers.
func (b *box) port() netip.AddrPort { return netip.AddrPortFrom(b.addr, 6881) }

// answered is how many queries of a method the kernel half has answered.
func answered(r status.Report, query string) (n uint64) {
	for _, c := range r.XDP.Counters {
		if c.Query == query {
			n += c.Packets
		}
	}
	return n
}

// received is how many queries of a method came to user space.
func received(r status.Report, query string) (n uint64) {
	for _, c := range r.Node {
		if c.Group == "query received" && c.Name == query {
			n += c.Value
		}
	}
	return n
}

// contacts is how many nodes the box knows.
func contacts(r status.Report) (n int) {
	for _, f := range r.Families {
		n += f.Contacts
	}
	return n
}

// startedAt is when the program started, by this machine's clock; asked is when r was received.
func startedAt(r status.Report, asked time.Time) time.Time { return asked.Add(r.Started.Sub(r.Time)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
