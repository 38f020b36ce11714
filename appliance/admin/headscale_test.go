package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tailscale.com/ipn/store/mem"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"

	"kdht/appliance"
	"kdht/appliance/admin"
	"kdht/appliance/admin/headscaletest"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

const headscaleAddr = "10.99.0.1" // of everything, in a namespace of its own

// TestHeadscale runs a real control server, a box and its peers in a network namespace: viewer, operator, updater and stranger
// each may do what they should, an expired key recovers, and a control server that goes away takes nothing with it.
func TestHeadscale(t *testing.T) {
	if program := os.Getenv("KDHT_HEADSCALE_PROGRAM"); program != "" { // the test runs itself in the namespace
		testHeadscale(t, program)
		return
	}
	if os.Getenv("KDHT_HEADSCALE") != "1" {
		t.Skip("it builds Headscale, which takes minutes: make test-headscale")
	}
	testenv.NeedNetNS(t)
	began := time.Now()
	program, err := headscaletest.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Headscale was built in %s", time.Since(began).Round(time.Second))

	// A node that has no route to anywhere takes the network for down.
	here, there := netns.New(t, "tailnet"), netns.New(t, "nowhere")
	netns.Veth(t, netns.End{NS: here, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(headscaleAddr + "/24")}},
		netns.End{NS: there, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24")}})
	if err := here.IP("route", "add", "default", "via", "10.99.0.2"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHeadscale$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), "KDHT_HEADSCALE_PROGRAM="+program)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := here.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "--- PASS: TestHeadscale") {
		t.Fatalf("nothing was tested:\n%s", out.String())
	}
	t.Log(out.String())
}

const headscalePolicy = `{
	"tagOwners": {"tag:deploy": ["operator@"]},
	"grants": [
		{"src": ["*"], "dst": ["*"], "ip": ["*"]},
		{"src": ["operator@"], "dst": ["box@"], "app": {"kdht.internal/cap/admin": [{"roles": ["operator"]}]}},
		{"src": ["tag:deploy"], "dst": ["box@"], "app": {"kdht.internal/cap/admin": [{"roles": ["updater"]}]}},
		{"src": ["viewer@"], "dst": ["box@"], "app": {"kdht.internal/cap/admin": [{"roles": ["viewer"]}]}},
	],
}
`

// join has a peer join.
func join(t *testing.T, h *headscaletest.Server, name, key string) *peer {
	t.Helper()
	s := &tsnet.Server{Dir: t.TempDir(), ControlURL: h.URL, Hostname: name, Store: new(mem.Store), Ephemeral: true, AuthKey: key, UserLogf: logger.Discard}
	t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := s.Up(ctx)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &peer{t: t, name: name, server: s, addrs: st.TailscaleIPs, http: s.HTTPClient()}
}

func testHeadscale(t *testing.T, program string) {
	dir := t.TempDir()
	h := headscaletest.Start(t, program, headscaletest.Options{Dir: dir, Addr: netip.MustParseAddr(headscaleAddr), Policy: headscalePolicy})
	h.Users("operator", "viewer", "stranger", "listed", "box") // 1 to 5
	keyFile := filepath.Join(dir, "tailnet.key")
	first := h.Key("-u", "5")
	if err := os.WriteFile(keyFile, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := configure(t)
	history, check := fileOf(t, &cfg, `{
	"network": "private", "discovery": "off", "bootstrap": "none",
	"tailnet": { "controlURL": "`+h.URL+`", "hostname": "box", "authKeyFile": "`+keyFile+`", "viewers": ["listed"] },
}
`)
	o := options{admin: admin.Options{History: history, Check: check}, config: &cfg, more: []appliance.Extension{updates}}
	b := start(t, o)
	at := b.state("connected")
	operator, viewer := join(t, h, "operator", h.Key("-u", "1")), join(t, h, "viewer", h.Key("-u", "2"))
	stranger, listed := join(t, h, "stranger", h.Key("-u", "3")), join(t, h, "listed", h.Key("-u", "4"))
	updater := join(t, h, "updater", h.Key("--tags", "tag:deploy"))
	everybody := map[*peer]string{operator: "viewer, operator", viewer: "viewer", stranger: "nobody", listed: "viewer", updater: "viewer, updater"}
	for p := range everybody {
		p.box = at.Addrs[0]
	}
	for p, want := range everybody {
		p.rolesAre(want)
	}
	for _, c := range everything() {
		for p, roles := range everybody {
			a, err := p.do(c.method, c.path, strings.NewReader(c.body))
			want := http.StatusForbidden
			if slices.ContainsFunc(c.may.Names(), func(role string) bool { return strings.Contains(roles, role) }) {
				want = c.want
			}
			if err != nil || a.status != want {
				t.Errorf("%s: %s %s: %d %s, %v; want %d", p.name, c.method, c.path, a.status, strings.TrimSpace(a.body), err, want)
			}
		}
	}
	viewer.must(200, "GET", "/", "", "Host", at.Name)

	// Headscale has no certificates to give: nobody is told to come by TLS, and nothing is there for who does.
	if want := []string{"http://" + at.Name}; !slices.Equal(at.URLs, want) {
		t.Errorf("the box says that it is served at %v, want %v", at.URLs, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if c, err := viewer.server.Dial(ctx, "tcp", net.JoinHostPort(viewer.box, "443")); err == nil || ctx.Err() != nil {
		t.Errorf("port 443 is not refused: %v, %v", c, err)
	}

	// The node key expires, and the auth key was used: the administrator extends it, or somebody has to log in or put a new key into
	// the file.
	expire := func(more ...string) {
		for _, n := range h.Nodes("box") {
			h.Run(append([]string{"nodes", "expire", "-i", fmt.Sprint(n.ID)}, more...)...)
		}
	}
	expire()
	b.loginURL("")
	expire("--disable")
	b.state("connected")
	expire()
	b.state("needs login")
	second := h.Key("-u", "5")
	if err := os.WriteFile(keyFile, []byte(second+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	anew := b.state("connected")
	for p := range everybody {
		p.box = anew.Addrs[0]
	}
	operator.rolesAre("viewer, operator")

	// Somebody else who has the URL of a login registers the box as his: it goes back by itself, and its owner registers it again.
	expire()
	b.state("needs login")
	register := func(user, before string) (url string) {
		url = b.loginURL(before)
		h.Run("auth", "register", "--auth-id", url[strings.LastIndexByte(url, '/')+1:], "--user", user)
		return url
	}
	foreign := register("stranger", "")
	eventually(t, func() bool {
		return strings.Contains(strings.Join(b.host.Report().Problems, "\n"), "stranger has logged it in to ")
	}, func() string { return fmt.Sprintf("%+v", b.host.Report().Tailnet) })
	register("box", foreign)
	anew = b.state("connected")
	for p := range everybody {
		p.box = anew.Addrs[0]
	}
	operator.rolesAre("viewer, operator")
	if audit := operator.must(200, "GET", "/admin/audit", "").body; !strings.Contains(audit, "log the box in to the tailnet") {
		t.Errorf("the audit log lacks the foreign login:\n%s", audit)
	}
	for _, key := range []string{first, second} {
		if strings.Contains(b.log.String(), key) {
			t.Error("the log has the auth key")
		}
	}

	// What has the program start anew: each time it is in the tailnet again, and the operator is who he was.
	text := operator.must(200, "GET", "/admin/config/file", "").body
	if got := operator.must(403, "PUT", "/admin/config", strings.Replace(text, `"viewers"`, `"updaters": ["operator"], "viewers"`, 1)).body; !strings.Contains(got, "tailnet.updaters") {
		t.Errorf("an operator makes himself an updater: %s", got)
	}
	backup := operator.must(200, "GET", "/admin/backup", "").body
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/admin/config", strings.Replace(text, `"network"`, `"store": { "maxItems": 77 }, "network"`, 1)},
		{"PUT", "/admin/restore", backup},
		{"POST", "/admin/restart", ""},
	} {
		for _, p := range []*peer{viewer, listed, stranger, updater} {
			p.rolesAre(everybody[p])
			p.must(403, c.method, c.path, c.body)
		}
		operator.must(202, c.method, c.path, c.body)
		if err := b.ended(); !isRestart(err) {
			t.Fatalf("%s %s: Serve = %v, want ErrRestart", c.method, c.path, err)
		}
		b = again(t, o)
		b.state("connected")
		operator.rolesAre("viewer, operator")
		eventually(t, func() bool { return history.Trial() == nil }, func() string { return "the change was not kept" })
	}
	if b.cfg.Store.MaxItems != 77 {
		t.Error("the change is not in force")
	}

	// Without the control server the DHT goes on, and so does the plane with the peers that it knows.
	h.Stop()
	operator.must(200, "GET", "/status", "")
	operator.must(201, "PUT", "/v1/items", "another value")
	b.ready()
	if r := b.host.Report(); len(r.Unhealthy()) > 0 {
		t.Errorf("unhealthy %v", r.Unhealthy())
	}
}
