package boot

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/image/vm"
)

// TestTwoBoxes has two boxes on one LAN, told nothing but that their network is a private one: they find each other, and
// an item that one of them has is found by who knows the other.
func TestTwoBoxes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()
	a := newBox(t, vm.BIOS(), 2<<30)
	b := a.second("52:54:00:00:00:02")
	boxes := []*box{a, b}
	for _, x := range boxes {
		x.card().put("kdht.hujson", `{"network": "private"}`)
		var err error
		x.VM, err = vm.Start(ctx, vm.Config{Machine: x.machine, CPUs: x.cpus, Disk: x.disk, NICs: []vm.NIC{x.nic}, Log: logFile(t, x.mac[15:])})
		must(t, err)
	}
	for _, x := range boxes {
		var err error
		x.addr, err = x.lan.Lease(ctx, x.mac)
		must(t, err)
	}
	for i, x := range boxes {
		other := boxes[1-i].addr.String()
		r := x.wait(ctx, func(r status.Report) bool { return r.Ready && knows(r, other) && families(r) == 2 })
		t.Logf("%s knows %s after %.1f s", r.Host.Name, other, time.Since(x.Started()).Seconds())
	}

	const value = "put on one box"
	target := a.keeps(value)
	if m := b.get(targetOf([]byte(value))); m.V != nil {
		t.Fatalf("the other box has %q itself", m.V)
	}
	kdht, err := fleet.Build(ctx, a.dir)
	must(t, err)
	out, err := a.lan.NS.Output(kdht, "get", "--network", "private", "--bootstrap", b.port().String(), target)
	if err != nil || strings.TrimSpace(string(out)) != value {
		t.Errorf("kdht get through the other box: %q, %v", out, err)
	}
}

// second makes another box, on the LAN of the first.
func (b *box) second(mac string) *box {
	b.t.Helper()
	o := &box{t: b.t, machine: b.machine, lan: b.lan, dir: b.t.TempDir(), mac: mac, cpus: b.cpus}
	var err error
	o.disk, err = vm.NewDisk(filepath.Join(o.dir, "disk.img"), image(b.t, b.machine.Instance).Path, b.disk.Size())
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, o.disk.Close()) })
	o.nic, err = o.lan.NIC(mac)
	must(b.t, err)
	b.t.Cleanup(func() {
		if o.VM != nil {
			must(b.t, o.PowerCut(vm.LoseAll()))
		}
	})
	return o
}

// knows says whether the box has found a neighbour, and had an answer from it.
func knows(r status.Report, addr string) bool {
	for _, s := range r.Sections {
		for _, f := range s.Facts {
			if s.Title == "Nodes on this LAN" && strings.Contains(f.Value, addr+":6881") && strings.Contains(f.Value, "is a contact") {
				return true
			}
		}
	}
	return false
}

// families counts those in which the box has contacts.
func families(r status.Report) (n int) {
	for _, f := range r.Families {
		if f.Good > 0 {
			n++
		}
	}
	return n
}
