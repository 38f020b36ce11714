package admin_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tailscale.com/ipn/store/mem"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"

	"kdht/appliance"
	"kdht/appliance/admin"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// Headscale is built from the module in the folder headscale, which pins it and is no dependency of the program.

const headscaleAddr = "10.99.0.1" // of everything, in a namespace of its own

// TestHeadscale runs a real control server, a box and its peers in a network namespace: viewer, operator, updater and stranger
// each may do what they should, an expired key recovers, and a control server that goes away takes nothing with it.
func TestHeadscale(t *testing.T) {
	if dir := os.Getenv("KDHT_HEADSCALE_DIR"); dir != "" { // the test runs itself in the namespace
		testHeadscale(t, dir)
		return
	}
	if os.Getenv("KDHT_HEADSCALE") != "1" {
		t.Skip("it builds Headscale, which takes minutes: make test-headscale")
	}
	testenv.NeedNetNS(t)
	dir := t.TempDir()
	began := time.Now()
	build := exec.Command("go", "build", "-C", "headscale", "-o", filepath.Join(dir, "headscale"), "github.com/juanfont/headscale/cmd/headscale")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("Headscale was built in %s", time.Since(began).Round(time.Second))
	certificate(t, dir)

	// A node that has no route to anywhere takes the network for down.
	here, there := netns.New(t, "tailnet"), netns.New(t, "nowhere")
	netns.Veth(t, netns.End{NS: here, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(headscaleAddr + "/24")}},
		netns.End{NS: there, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/24")}})
	if err := here.IP("route", "add", "default", "via", "10.99.0.2"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHeadscale$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), "KDHT_HEADSCALE_DIR="+dir, "SSL_CERT_FILE="+filepath.Join(dir, "cert.pem"))
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

// certificate makes a certificate for the control server that signs itself.
func certificate(t *testing.T, dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "headscale"}, IPAddresses: []net.IP{net.ParseIP(headscaleAddr)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const headscaleConfig = `
server_url: https://ADDR:8443
listen_addr: ADDR:8443
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
tls_cert_path: DIR/cert.pem
tls_key_path: DIR/key.pem
noise: { private_key_path: DIR/noise.key }
prefixes: { v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }
derp:
  server:
    enabled: true
    region_id: 999
    region_code: test
    region_name: test
    verify_clients: false
    stun_listen_addr: 0.0.0.0:3478
    private_key_path: DIR/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: ADDR
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
database: { type: sqlite, sqlite: { path: DIR/db.sqlite, write_ahead_log: true } }
policy: { mode: file, path: DIR/policy.hujson }
dns: { magic_dns: true, base_domain: tail.example, override_local_dns: false, nameservers: { global: [] } }
unix_socket: DIR/headscale.sock
unix_socket_permission: "0700"
log: { level: warn }
`

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

// headscale is a running control server.
type headscale struct {
	t    *testing.T
	dir  string
	stop func()
}

func startHeadscale(t *testing.T, dir string) *headscale {
	h := &headscale{t: t, dir: dir}
	for name, text := range map[string]string{"config.yaml": headscaleConfig, "policy.hujson": headscalePolicy} {
		text = strings.NewReplacer("DIR", dir, "ADDR", headscaleAddr).Replace(text)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &logs{}
	cmd := exec.Command(filepath.Join(dir, "headscale"), "-c", filepath.Join(dir, "config.yaml"), "serve")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	h.stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Log(log)
		}
	})
	eventually(t, func() bool {
		return exec.Command(cmd.Path, "-c", filepath.Join(dir, "config.yaml"), "users", "list").Run() == nil
	},
		func() string { return "Headscale does not run" })
	return h
}

// run runs a command of Headscale and returns the last line of what it prints.
func (h *headscale) run(args ...string) string {
	h.t.Helper()
	out, err := exec.Command(filepath.Join(h.dir, "headscale"), append([]string{"-c", filepath.Join(h.dir, "config.yaml")}, args...)...).Output()
	if err != nil {
		h.t.Fatalf("headscale %v: %v %s", args, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// key makes an auth key that can be used once.
func (h *headscale) key(args ...string) string {
	h.t.Helper()
	return h.run(append([]string{"preauthkeys", "create", "-e", "1h"}, args...)...)
}

// join has a peer join.
func (h *headscale) join(name, key string) *peer {
	h.t.Helper()
	s := &tsnet.Server{Dir: h.t.TempDir(), ControlURL: "https://" + headscaleAddr + ":8443", Hostname: name, Store: new(mem.Store), Ephemeral: true, AuthKey: key, UserLogf: logger.Discard}
	h.t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := s.Up(ctx)
	if err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return &peer{t: h.t, name: name, server: s, addrs: st.TailscaleIPs, http: s.HTTPClient()}
}

func testHeadscale(t *testing.T, dir string) {
	h := startHeadscale(t, dir)
	for _, user := range []string{"operator", "viewer", "stranger", "listed", "box"} { // 1 to 5
		h.run("users", "create", user)
	}
	keyFile := filepath.Join(dir, "tailnet.key")
	first := h.key("-u", "5")
	if err := os.WriteFile(keyFile, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := configure(t)
	history, check := fileOf(t, &cfg, `{
	"network": "private", "discovery": "off", "bootstrap": "none",
	"tailnet": { "controlURL": "https://`+headscaleAddr+`:8443", "hostname": "box", "authKeyFile": "`+keyFile+`", "viewers": ["listed"] },
}
`)
	o := options{admin: admin.Options{History: history, Check: check}, config: &cfg, more: []appliance.Extension{updates}}
	b := start(t, o)
	at := b.state("connected")
	operator, viewer := h.join("operator", h.key("-u", "1")), h.join("viewer", h.key("-u", "2"))
	stranger, listed := h.join("stranger", h.key("-u", "3")), h.join("listed", h.key("-u", "4"))
	updater := h.join("updater", h.key("--tags", "tag:deploy"))
	everybody := map[*peer]string{operator: "viewer, operator", viewer: "viewer", stranger: "nobody", listed: "viewer", updater: "viewer, updater"}
	for p := range everybody {
		p.box = at.Addrs[0]
	}
	for p, want := range everybody {
		p.rolesAre(want)
	}
	for _, c := range []struct {
		method, path, body string
		may                string // a role
		want               int
	}{
		{"GET", "/", "", "viewer", 200},
		{"GET", "/status", "", "viewer", 200},
		{"GET", "/admin/log", "", "viewer", 200},
		{"GET", "/admin/config", "", "viewer", 200},
		{"GET", "/admin/audit", "", "viewer", 200},
		{"GET", "/v1", "", "viewer", 200},
		{"PUT", "/v1/items", "value", "operator", 201},
		{"GET", "/admin/backup", "", "operator", 200},
		{"PUT", "/admin/restore", "no database", "operator", 422},
		{"PUT", "/admin/config", "{", "operator", 422},
		{"GET", "/debug/pprof/goroutine", "", "operator", 200},
		{"PUT", "/update/root", "", "updater", 200},
		{"POST", "/update/switch", "", "updater", 200},
	} {
		for p, roles := range everybody {
			a, err := p.do(c.method, c.path, strings.NewReader(c.body))
			want := http.StatusForbidden
			if strings.Contains(roles, c.may) {
				want = c.want
			}
			if err != nil || a.status != want {
				t.Errorf("%s: %s %s: %d %s, %v; want %d", p.name, c.method, c.path, a.status, strings.TrimSpace(a.body), err, want)
			}
		}
	}
	viewer.must(200, "GET", "/", "", "Host", at.Name)

	// The node key expires, and the auth key was used: the administrator extends it, or somebody has to log in or put a new key into
	// the file.
	var nodes []struct {
		ID   uint64 `json:"id"`
		Name string `json:"name"`
	}
	list, err := exec.Command(filepath.Join(dir, "headscale"), "-c", filepath.Join(dir, "config.yaml"), "nodes", "list", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(list, &nodes); err != nil {
		t.Fatalf("%v: %s", err, list)
	}
	expire := func(more ...string) {
		for _, n := range nodes {
			if n.Name == "box" {
				h.run(append([]string{"nodes", "expire", "-i", fmt.Sprint(n.ID)}, more...)...)
			}
		}
	}
	expire()
	b.loginURL("")
	expire("--disable")
	b.state("connected")
	expire()
	b.state("needs login")
	second := h.key("-u", "5")
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
		h.run("auth", "register", "--auth-id", url[strings.LastIndexByte(url, '/')+1:], "--user", user)
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
	h.stop()
	operator.must(200, "GET", "/status", "")
	operator.must(201, "PUT", "/v1/items", "another value")
	b.ready()
	if r := b.host.Report(); len(r.Unhealthy()) > 0 {
		t.Errorf("unhealthy %v", r.Unhealthy())
	}
}
