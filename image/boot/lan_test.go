package boot

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/image/vm"
)

// twoBoxes is what the two boxes of TestTwoBoxes are told: nothing of each other, but the key of their fleet, and a token.
const twoBoxes = `{
	"network": "private",
	"names": {"secret": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"},
	"gateway": {"tokens": ["test:0123456789abcdef"], "allow": ["198.18.0.0/15"]},
}`

// TestTwoBoxes has two boxes on one LAN, told nothing of each other: they find each other, an item that one of them has is
// found by who knows the other, and so is a name that one is told by HTTP. Both are ready, and say why, and the holder of the token
// gets a support bundle.
func TestTwoBoxes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()
	a := newBox(t, vm.BIOS(), 2<<30)
	b := a.second("52:54:00:00:00:02")
	boxes := []*box{a, b}
	for _, x := range boxes {
		x.card().put("kdht.hujson", twoBoxes)
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

	if code, body := a.ask(ctx, http.MethodPut, "/v1/names/foo", "bar", "Authorization", "Bearer 0123456789abcdef"); code != http.StatusCreated {
		t.Errorf("a name at one box: %d %s", code, body)
	}
	if code, body := b.ask(ctx, http.MethodGet, "/v1/names/foo", ""); code != http.StatusOK || body != "bar" {
		t.Errorf("the name at the other: %d %q", code, body)
	}
	if code, body := b.ask(ctx, http.MethodPut, "/v1/names/foo", "baz"); code != http.StatusUnauthorized {
		t.Errorf("a name without a token: %d %s", code, body)
	}
	code, body := a.ask(ctx, http.MethodGet, "/readyz", "")
	t.Logf("%d %s", code, body)
	if code != http.StatusOK || !strings.Contains(body, "good      answers") || !strings.Contains(body, "good      link") || !strings.Contains(body, "good      updates") {
		t.Errorf("the health of a box: %d %s", code, body)
	}
	if code, body := a.ask(ctx, http.MethodGet, "/bundle", "", "Authorization", "Bearer 0123456789abcdef"); code != http.StatusOK || len(body) < 10_000 {
		t.Errorf("a support bundle: %d, %d bytes", code, len(body))
	}
	if code, _ := a.ask(ctx, http.MethodGet, "/bundle", ""); code != http.StatusForbidden {
		t.Errorf("a support bundle without a token: %d", code)
	}
}

// ask sends a request from the LAN to the page of the box. header are names and values.
func (b *box) ask(ctx context.Context, method, path, body string, header ...string) (code int, answer string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+b.addr.String()+path, strings.NewReader(body))
	must(b.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.lan.HTTP().Do(req)
	must(b.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(b.t, err)
	return res.StatusCode, string(text)
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
