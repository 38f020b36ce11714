package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/ipn/store/mem"
	"tailscale.com/net/netns"
	"tailscale.com/net/stun/stuntest"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
	"tailscale.com/types/nettype"

	"kdht/appliance"
	"kdht/appliance/admin"
	"kdht/appliance/admin/change"
	"kdht/appliance/gateway"
	"kdht/appliance/status"
	"kdht/config"
)

// patience bounds how long a test waits for something.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	netns.SetEnabled(false) // its sockets would avoid the loopback interface
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// tailnet is a control server in this process, with a relay on the loopback interface.
type tailnet struct {
	t       *testing.T
	control *testcontrol.Server
	url     string
}

const domain = "example.ts.net"

func newTailnet(t *testing.T, set func(*testcontrol.Server)) *tailnet {
	t.Helper()
	c := &testcontrol.Server{
		DERPMap: relay(t), DNSConfig: &tailcfg.DNSConfig{Proxied: true}, MagicDNSDomain: domain, Logf: logger.Discard,
	}
	if set != nil {
		set(c)
	}
	c.HTTPTestServer = httptest.NewServer(c)
	t.Cleanup(c.HTTPTestServer.Close)
	return &tailnet{t, c, c.HTTPTestServer.URL}
}

// relay runs a DERP and a STUN server, as tailscale.com/tstest/integration does, which needs half the world.
func relay(t *testing.T) *tailcfg.DERPMap {
	d := derpserver.New(key.NewNode(), logger.Discard)
	s := httptest.NewUnstartedServer(derpserver.Handler(d))
	s.Config.ErrorLog = logger.StdLogger(logger.Discard)
	s.Config.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	s.StartTLS()
	stun, stop := stuntest.ServeWithPacketListener(t, nettype.Std{})
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		_ = d.Close()
		stop()
	})
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: {RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{{
		Name: "t1", RegionID: 1, HostName: "127.0.0.1", IPv4: "127.0.0.1", IPv6: "none", STUNPort: stun.Port,
		DERPPort: s.Listener.Addr().(*net.TCPAddr).Port, InsecureForTests: true, STUNTestIP: "127.0.0.1",
	}}}}}
}

// logs is a log that a test looks into, at every level.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// box is a node with its admin plane.
type box struct {
	t      *testing.T
	cfg    config.Config
	host   *appliance.Host
	log    *logs
	stop   func()
	served chan error
}

// options say how a box is run.
type options struct {
	admin  admin.Options
	values []string // keys and values of the configuration
	config *config.Config
	more   []appliance.Extension
	alone  bool // it finds nobody, and is not waited for
}

// configure gives a configuration for a node that meets nobody.
func configure(t *testing.T, values ...string) config.Config {
	t.Helper()
	c := config.New()
	for i, all := 0, append([]string{"state", t.TempDir(), "http", "off", "network", "private", "discovery", "off", "bootstrap", "none",
		"xdp.mode", "off"}, values...); i < len(all); i += 2 {
		if err := c.Set(all[i], all[i], strings.Split(all[i+1], ",")...); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	return cfg
}

func start(t *testing.T, o options) *box {
	t.Helper()
	b := &box{t: t, log: &logs{}, served: make(chan error, 1)}
	if o.config != nil {
		b.cfg = *o.config
	} else {
		b.cfg = configure(t, o.values...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	hosts := make(chan *appliance.Host, 1)
	extensions := append([]appliance.Extension{gateway.Extension(admin.Authority)}, o.more...)
	extensions = append(extensions, admin.Extension(o.admin), func(h *appliance.Host) error { hosts <- h; return nil })
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.served <- appliance.Serve(ctx, b.cfg, log, extensions...)
	}()
	b.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		b.stop()
		if t.Failed() && testing.Verbose() {
			t.Log(b.log)
		}
	})
	select {
	case b.host = <-hosts:
	case err := <-b.served:
		t.Fatal(err)
	}
	if o.alone {
		return b
	}
	select {
	case <-b.host.Node.Ready():
	case <-time.After(patience):
		t.Fatal("the node is not ready")
	}
	return b
}

// ready waits until the node is: its DHT answers.
func (b *box) ready() {
	b.t.Helper()
	eventually(b.t, func() bool { return b.host.Report().Ready }, func() string { return "the node is not ready" })
}

// ended waits until the node has stopped by itself.
func (b *box) ended() error {
	b.t.Helper()
	select {
	case err := <-b.served:
		return err
	case <-time.After(patience):
		b.t.Fatal("the node did not stop")
		return nil
	}
}

// state waits until the plane says that it is in a state.
func (b *box) state(want string) status.Tailnet {
	b.t.Helper()
	var r status.Tailnet
	eventually(b.t, func() bool {
		if x := b.host.Report().Tailnet; x != nil {
			r = *x
		}
		return r.State == want
	}, func() string { return fmt.Sprintf("the plane is not %q: %+v", want, r) })
	return r
}

func eventually(t *testing.T, ok func() bool, otherwise func() string) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(otherwise())
		}
	}
}

// key gives the node key of the only node with a host name.
func (n *tailnet) key(host string) (k key.NodePublic) {
	n.t.Helper()
	for _, x := range n.control.AllNodes() {
		if x.Hostinfo.Hostname() == host {
			return x.Key
		}
	}
	n.t.Fatalf("%s is not in the tailnet", host)
	return k
}

// peer is another node of the tailnet.
type peer struct {
	t      *testing.T
	name   string
	server *tsnet.Server
	addrs  []netip.Addr
	http   *http.Client
	box    string // its address
}

func (n *tailnet) peer(name string, tags ...string) *peer {
	n.t.Helper()
	s := &tsnet.Server{Dir: n.t.TempDir(), ControlURL: n.url, Hostname: name, Store: new(mem.Store), Ephemeral: true, AdvertiseTags: tags,
		UserLogf: logger.Discard, AuthKey: "tskey-auth-peer"}
	n.t.Cleanup(func() { leave(s) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := s.Up(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return &peer{t: n.t, name: name, server: s, addrs: st.TailscaleIPs, http: s.HTTPClient()}
}

// leave ends a node, or leaves it to its fate: see end in plane.go.
func leave(s *tsnet.Server) {
	left := make(chan struct{})
	go func() {
		_ = s.Close()
		close(left)
	}()
	select {
	case <-left:
	case <-time.After(3 * time.Second):
	}
}

// answer is what came back.
type answer struct {
	status int
	body   string
	header http.Header
}

// do sends a request to a box; the name that it asks for is its address unless a header Host says other.
func (p *peer) do(method, path string, body io.Reader, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.box+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), resp.Header}, err
}

func (p *peer) must(want int, method, path, body string, header ...string) answer {
	p.t.Helper()
	a, err := p.do(method, path, strings.NewReader(body), header...)
	if err != nil {
		p.t.Fatalf("%s: %s %s: %v", p.name, method, path, err)
	}
	if a.status != want {
		p.t.Fatalf("%s: %s %s: %d %s, want %d", p.name, method, path, a.status, strings.TrimSpace(a.body), want)
	}
	return a
}

// grant has the tailnet's policy give peers roles at a box, as the value of the capability.
func (n *tailnet) grant(box key.NodePublic, grants map[*peer]string) {
	n.t.Helper()
	rules := []tailcfg.FilterRule{}
	for p, value := range grants {
		var src []string
		for _, a := range p.addrs {
			src = append(src, a.String())
		}
		rules = append(rules, tailcfg.FilterRule{SrcIPs: src, CapGrant: []tailcfg.CapGrant{{
			Dsts:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
			CapMap: tailcfg.PeerCapMap{admin.Capability: {tailcfg.RawMessage(value)}},
		}}})
	}
	eventually(n.t, func() bool {
		return n.control.AddRawMapResponse(box, &tailcfg.MapResponse{PacketFilters: map[string][]tailcfg.FilterRule{"grants": rules}})
	}, func() string { return "the box does not listen to the control server" })
}

// rolesAre waits until a box knows a peer with roles.
func (p *peer) rolesAre(want string) {
	p.t.Helper()
	var got string
	eventually(p.t, func() bool {
		a, err := p.do("GET", "/admin", nil)
		var who struct{ Roles []string }
		switch {
		case err != nil:
			got = err.Error()
		case a.status == http.StatusForbidden:
			got = "nobody"
		case json.Unmarshal([]byte(a.body), &who) == nil:
			got = strings.Join(who.Roles, ", ")
		}
		return got == want
	}, func() string { return fmt.Sprintf("%s has the roles %q, want %q", p.name, got, want) })
}

// fileOf writes a configuration file that gives a box a place in a tailnet, and its history. flags are keys and values on top of it.
func fileOf(t *testing.T, cfg *config.Config, text string, flags ...string) (*change.History, func([]byte) (config.Config, error)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kdht.hujson")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) (config.Config, error) {
		c := config.New()
		if err := c.Parse("kdht.hujson", text); err != nil {
			return config.Config{}, err
		}
		if err := errors.Join(c.Set("--state", "state", cfg.State), c.Set("--http", "http", "off"), c.Set("--xdp", "xdp.mode", "off")); err != nil {
			return config.Config{}, err
		}
		for i := 0; i < len(flags); i += 2 {
			if err := c.Set("--set", flags[i], flags[i+1]); err != nil {
				return config.Config{}, err
			}
		}
		next, err := c.Config()
		next.Listen = cfg.Listen
		return next, err
	}
	next, err := check([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	*cfg = next
	return change.Open(filepath.Join(cfg.State, "config"), path), check
}
