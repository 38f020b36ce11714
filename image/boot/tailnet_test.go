package boot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/appliance/admin/change"
	"kdht/appliance/admin/headscaletest"
	"kdht/appliance/status"
	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/bpf/netns"
	"kdht/image/pack"
	"kdht/image/vm"
)

// tailnetPolicy says who may do what on the box, by roles; stranger@ has none.
const tailnetPolicy = `{
	"tagOwners": {"tag:kdht": ["admin@"], "tag:deploy": ["admin@"]},
	"grants": [
		{"src": ["*"], "dst": ["*"], "ip": ["*"]},
		{"src": ["admin@"], "dst": ["tag:kdht"], "app": {"kdht.internal/cap/admin": [{"roles": ["operator", "updater"]}]}},
		{"src": ["tag:deploy"], "dst": ["tag:kdht"], "app": {"kdht.internal/cap/admin": [{"roles": ["updater"]}]}},
		{"src": ["viewer@"], "dst": ["tag:kdht"], "app": {"kdht.internal/cap/admin": [{"roles": ["viewer"]}]}},
	],
}
`

// TestTailnet looks after a box through a tailnet of Headscale, from machines that are nodes of it: who may not do something cannot, a
// configuration that would lock everybody out is taken back, another one stays, the stock gok updates the box, which has no password,
// and it restarts when it is told to. It is who it was in the tailnet after all that, though its auth key can be used once. Then its
// owner gives it a password, with which the LAN gets a support bundle, and no secret.
func TestTailnet(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()
	b := newBox(t, vm.BIOS(), 2<<30)
	b.stayOff = true
	headscale, err := headscaletest.Build(ctx)
	must(t, err)
	control := headscaletest.Start(t, headscale, headscaletest.Options{Dir: t.TempDir(), Addr: vm.LANHost, NS: b.lan.NS, Policy: tailnetPolicy})
	control.Users("admin", "viewer", "stranger") // 1 to 3
	node := filepath.Join(b.dir, "tailnode")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", node, "kdht/image/boot/internal/tailnode").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	x := &tailnet{box: b, control: control, node: node, key: control.Key("--tags", "tag:kdht")}
	admin, viewer := x.joins(ctx, "admin", "-u", "1"), x.joins(ctx, "viewer", "-u", "2")
	stranger, deploy := x.joins(ctx, "stranger", "-u", "3"), x.joins(ctx, "deploy", "--tags", "tag:deploy")

	b.card().put("kdht.hujson", fmt.Sprintf(`{
	"network": "private", "discovery": "off", "bootstrap": "none",
	"tailnet": {"controlURL": %q, "hostname": "box"},
}
`, control.URL))
	b.card().put("tailnet.key", x.key)
	b.on(ctx)
	x.connected(ctx)
	t.Logf("in the tailnet %.1f s after power on", time.Since(b.Started()).Seconds())
	was := x.identity()
	item := b.keeps("stored before the update")

	for m, want := range map[*member]string{admin: "viewer, operator, updater", deploy: "viewer, updater", viewer: "viewer"} {
		m.until(ctx, "/admin", func(code int, body []byte) bool {
			var who struct{ Roles []string }
			return code == http.StatusOK && json.Unmarshal(body, &who) == nil && strings.Join(who.Roles, ", ") == want
		})
	}
	for _, c := range []struct{ method, path string }{
		{http.MethodPut, "/update/root"}, {http.MethodPut, "/update/boot"}, {http.MethodPost, "/update/switch"}, {http.MethodPost, "/reboot"},
		{http.MethodPost, "/admin/reboot"}, {http.MethodPut, "/admin/config"}, {http.MethodGet, "/admin/backup"},
	} {
		for _, m := range []*member{viewer, stranger} {
			m.must(ctx, http.StatusForbidden, c.method, c.path, "")
		}
		if strings.HasPrefix(c.path, "/admin") {
			continue // that is not there on the LAN
		}
		if code, said := b.ask(ctx, c.method, c.path, ""); code != http.StatusForbidden || !strings.Contains(said, "no password") {
			t.Errorf("%s %s from the LAN: %d %s", c.method, c.path, code, said)
		}
	}
	stranger.must(ctx, http.StatusForbidden, http.MethodGet, "/", "")
	deploy.must(ctx, http.StatusForbidden, http.MethodPut, "/admin/config", "")

	text := admin.must(ctx, http.StatusOK, http.MethodGet, "/admin/config/file", "")
	if got := admin.must(ctx, http.StatusUnprocessableEntity, http.MethodPut, "/admin/config", strings.Replace(text, "private", "privat", 1)); !strings.Contains(got, `kdht.hujson:2:13: network: "privat"`) {
		t.Errorf("a wrong configuration: %s", got)
	}
	began := time.Now()
	admin.must(ctx, http.StatusAccepted, http.MethodPut, "/admin/config?within=90s", strings.Replace(text, control.URL, "http://198.18.0.9:9", 1))
	v := admin.version(ctx, 2, "taken back: the admin plane is not in the tailnet")
	t.Logf("%.0f s: version %d %s", time.Since(began).Seconds(), v.ID, v.Outcome)
	began = time.Now()
	text = strings.Replace(text, `"network"`, `"store": {"maxItems": 77777}, "network"`, 1)
	admin.must(ctx, http.StatusAccepted, http.MethodPut, "/admin/config", text)
	v = admin.version(ctx, 4, "in force") // 3 is the first one again
	t.Logf("%.0f s: version %d %s", time.Since(began).Seconds(), v.ID, v.Outcome)

	began = time.Now()
	var said bytes.Buffer
	src, err := pack.OpenSource(ctx, ".")
	must(t, err)
	err = deploy.ns.Do(func() error {
		return pack.Update(ctx, src, "amd64", x.addr.String(), "", pack.Options{Version: "v2"}, io.MultiWriter(logFile(t, "gok"), &said))
	})
	t.Logf("gok took %.0f s:\n%s", time.Since(began).Seconds(), &said)
	must(t, err)
	s := viewer.runs(ctx, bootdisk.Slot3)
	last := s.History[len(s.History)-1]
	line, err := json.Marshal(last)
	must(t, err)
	t.Logf("%.0f s: %s", time.Since(began).Seconds(), line)
	if s.Version != "v2" || last.Result != "committed" || last.By != "tag:deploy (deploy) over the tailnet" {
		t.Errorf("after the update %+v", s)
	}
	b.holds(item, []byte("stored before the update"))
	x.same(ctx, was)

	if got := admin.must(ctx, http.StatusOK, http.MethodPost, "/admin/reboot", ""); got != "Rebooting...\n" {
		t.Errorf("a restart is answered by %q", got)
	}
	must(t, b.Wait(ctx))
	b.card().put("gokr-pw.txt", updatePassword)
	b.on(ctx)
	x.connected(ctx)
	x.same(ctx, was)
	if s := viewer.runs(ctx, bootdisk.Slot3); s.Version != "v2" {
		t.Errorf("version %q after the restart", s.Version)
	}
	if got := admin.must(ctx, http.StatusOK, http.MethodGet, "/admin/config/file", ""); got != text {
		t.Errorf("the configuration is now\n%s, and was\n%s", got, text)
	}
	audit := viewer.must(ctx, http.StatusOK, http.MethodGet, "/admin/audit", "")
	for _, words := range []string{"change the configuration: version 2", "change the configuration: version 4", "update: PUT /update/root", "reboot: POST /admin/reboot", `"admin (admin)"`, `"tag:deploy (deploy)"`} {
		if !strings.Contains(audit, words) {
			t.Errorf("the audit log lacks %q:\n%s", words, audit)
		}
	}
	x.bundle(ctx)
}

// tailnet is what a box has joined.
type tailnet struct {
	*box
	control *headscaletest.Server
	node    string // the program that makes members
	members int
	key     string     // the auth key of the box
	addr    netip.Addr // of the box
}

// connected waits until the box is in the tailnet.
func (x *tailnet) connected(ctx context.Context) {
	x.t.Helper()
	r := x.wait(ctx, func(r status.Report) bool { return r.Ready && r.Tailnet != nil && r.Tailnet.State == "connected" })
	for _, s := range r.Tailnet.Addrs {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			x.addr = a
		}
	}
}

// identity is who the box is in the tailnet.
func (x *tailnet) identity() string {
	x.t.Helper()
	nodes := x.control.Nodes("box")
	if len(nodes) != 1 {
		x.t.Fatalf("the control server knows %+v", nodes)
	}
	return fmt.Sprintf("node %d with key %s at %s", nodes[0].ID, nodes[0].Key, x.addr)
}

// same checks that the box is who it was.
func (x *tailnet) same(ctx context.Context, was string) {
	x.t.Helper()
	x.connected(ctx)
	if is := x.identity(); is != was {
		x.t.Errorf("the box is %s, and was %s", is, was)
	}
}

// bundle gets a support bundle on the LAN, by the password, and looks for secrets in it.
func (x *tailnet) bundle(ctx context.Context) {
	x.t.Helper()
	if code, _ := x.ask(ctx, http.MethodGet, "/bundle", ""); code != http.StatusUnauthorized {
		x.t.Errorf("a bundle without password: %d", code)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+x.box.addr.String()+"/bundle", nil)
	must(x.t, err)
	req.SetBasicAuth("gokrazy", updatePassword)
	res, err := x.lan.HTTP().Do(req)
	must(x.t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		x.t.Fatalf("a bundle with the password: %s", res.Status)
	}
	zip, err := gzip.NewReader(res.Body)
	must(x.t, err)
	var names []string
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(x.t, err)
		text, err := io.ReadAll(in)
		must(x.t, err)
		names = append(names, filepath.Base(h.Name))
		for _, secret := range []string{x.key, updatePassword, "privkey:"} { // the last begins those of the state
			if bytes.Contains(text, []byte(secret)) {
				x.t.Errorf("%s has the secret %s", h.Name, secret)
			}
		}
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "log.txt") || !strings.Contains(all, "audit.json") || !strings.Contains(all, "config.hujson") {
		x.t.Errorf("the bundle has %s", all)
	}
}

// member is a machine on the LAN that is a node of the tailnet: what runs in its namespace reaches the others by their addresses there.
type member struct {
	x    *tailnet
	name string
	ns   *netns.NS
	http *http.Client
}

// joins makes a member; key is what its auth key is for.
func (x *tailnet) joins(ctx context.Context, name string, key ...string) *member {
	t := x.t
	t.Helper()
	ns := netns.New(t, name)
	x.members++
	addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 3, byte(x.members)}), vm.LANPrefix.Bits())
	netns.Veth(t, netns.End{NS: x.lan.NS, Name: name}, netns.End{NS: ns, Name: "eth0", Addrs: []netip.Prefix{addr}})
	must(t, x.lan.NS.IP("link", "set", name, "master", "br0"))
	must(t, ns.IP("route", "add", "default", "via", vm.LANHost.String())) // without one it takes the network for down
	cmd := exec.Command(x.node, "-control", x.control.URL, "-name", name, "-key", x.control.Key(key...), "-dir", t.TempDir())
	cmd.Stderr = logFile(t, name)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, ns.Start(cmd))
	t.Cleanup(func() {
		_ = in.Close() // it ends then
		_ = cmd.Wait() // and how is its own affair
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s has not joined: %v", name, err)
	}
	must(t, ns.Batch("addr add "+strings.TrimSpace(line)+"/32 dev ts0", "link set ts0 up", "route add 100.64.0.0/10 dev ts0"))
	dial := func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = ns.Do(func() error { c, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
		return c, err
	}
	return &member{x: x, name: name, ns: ns, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// must asks the box for something, which is to be answered with a status.
func (m *member) must(ctx context.Context, want int, method, path, body string) string {
	t := m.x.t
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+m.x.addr.String()+path, strings.NewReader(body))
	must(t, err)
	res, err := m.http.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != want {
		t.Fatalf("%s: %s %s: %s %s, want %d", m.name, method, path, res.Status, text, want)
	}
	return string(text)
}

// until asks the box for something until the answer is as wanted.
func (m *member) until(ctx context.Context, path string, ok func(code int, body []byte) bool) {
	m.x.t.Helper()
	if _, err := vm.WaitHTTP(ctx, m.x.VM, m.http, "http://"+m.x.addr.String()+path, ok); err != nil {
		m.x.t.Fatalf("%s: %v; console:\n%s", m.name, err, strings.Join(m.x.Console.Last(30), "\n"))
	}
}

// version waits until a version of the configuration has an outcome that begins with words.
func (m *member) version(ctx context.Context, id int, words string) (v change.Version) {
	m.x.t.Helper()
	m.until(ctx, "/admin/config/versions", func(code int, body []byte) bool {
		var all []change.Version
		if code != http.StatusOK || json.Unmarshal(body, &all) != nil {
			return false
		}
		for _, v = range all {
			if v.ID == id {
				return strings.HasPrefix(v.Outcome, words)
			}
		}
		return false
	})
	return v
}

// runs waits until the box runs from a slot, not on trial.
func (m *member) runs(ctx context.Context, slot bootdisk.Slot) (s update.Status) {
	m.x.t.Helper()
	m.until(ctx, "/update/status", func(code int, body []byte) bool {
		s = update.Status{}
		return code == http.StatusOK && json.Unmarshal(body, &s) == nil && s.Slot == slot && !s.Trial
	})
	return s
}
