package appliance_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
	"kdht/config"
	"kdht/store"
)

// local is a configuration that needs no rights and meets nobody.
func local(t testing.TB, values ...string) config.Config {
	t.Helper()
	b := config.New()
	set := func(key string, values ...string) {
		if err := b.Set(key, key, values...); err != nil {
			t.Fatal(err)
		}
	}
	set("state", t.TempDir())
	set("listen", "127.0.0.1:0")
	set("http", "off")
	set("network", "private")
	set("bootstrap", "none")
	set("xdp.mode", "off")
	for i := 0; i < len(values); i += 2 {
		set(values[i], values[i+1])
	}
	c, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	return c
}

// TestServeStopsCleanly runs the node in this process and looks at what it leaves.
func TestServeStopsCleanly(t *testing.T) {
	cfg := local(t)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		if err := appliance.Serve(ctx, cfg, quiet); err != nil {
			t.Fatalf("Serve = %v, want nil after its context ended", err)
		}
		s, err := store.Open(filepath.Join(cfg.State, "kdht.db"), store.Options{LockTimeout: time.Millisecond})
		if err != nil {
			t.Fatalf("the store was not closed: %v", err)
		}
		if path, reason := s.SetAside(); path != "" {
			t.Errorf("the store was left damaged: %s", reason)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestServeFails makes sure that what cannot work is said, and ends the process.
func TestServeFails(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	taken := local(t)
	taken.Listen = []netip.AddrPort{udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	web := local(t)
	web.HTTP = tcp.Addr().String()
	nowhere := local(t)
	nowhere.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6881")}
	state := local(t)
	state.State = filepath.Join(file, "state")
	bootstrap := local(t)
	bootstrap.Bootstrap = []string{"no port"}
	for name, c := range map[string]struct {
		cfg  config.Config
		want string
	}{
		"UDP port taken":     {taken, "choose another with --listen"},
		"TCP port taken":     {web, "choose another with --http"},
		"not our address":    {nowhere, "listen on 192.0.2.1:6881"},
		"no state directory": {state, "state directory " + state.State},
		"bad bootstrap node": {bootstrap, "no port"},
	} {
		err := appliance.Serve(t.Context(), c.cfg, quiet)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Serve = %v, want an error with %q", name, err, c.want)
		}
		if s, err := store.Open(filepath.Join(c.cfg.State, "kdht.db"), store.Options{LockTimeout: time.Millisecond}); name != "no state directory" && err != nil {
			t.Errorf("%s: the store was not closed: %v", name, err)
		} else if err == nil {
			_ = s.Close()
		}
	}
}

// TestStateLocked starts two processes with one state directory.
func TestStateLocked(t *testing.T) {
	cfg := local(t)
	s, err := store.Open(filepath.Join(cfg.State, "kdht.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := appliance.Serve(t.Context(), cfg, quiet); err == nil || !strings.Contains(err.Error(), "is another kdht running") {
		t.Errorf("Serve = %v, want a question for another kdht", err)
	}
}

// TestSeed makes sure that a seed gives the same ID again without the state.
func TestSeed(t *testing.T) {
	id := func(values ...string) [20]byte {
		cfg := local(t, values...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := appliance.Serve(ctx, cfg, quiet, func(h *appliance.Host) error {
			go func() {
				<-h.Node.Ready()
				cancel()
			}()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(filepath.Join(cfg.State, "kdht.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		i, err := s.Identity(false)
		if err != nil {
			t.Fatal(err)
		}
		return i.ID
	}
	a, again, b := id("nodeIDSeed", "a"), id("nodeIDSeed", "a"), id("nodeIDSeed", "b")
	if a != again || a == b {
		t.Errorf("seed a gives %x and %x, seed b %x", a, again, b)
	}
	here := []string{"nodeIDSeed", "a", "network", "public", "external", "198.18.0.1"}
	x, y := id(here...), id(here...)
	if x != y || x == a {
		t.Errorf("seed a in the public network gives %x and %x, in a private one %x", x, y, a)
	}
}

// TestSignals stops the program with SIGTERM, and starts it where it cannot run.
func TestSignals(t *testing.T) {
	testenv.NeedNetNS(t)
	ns := netns.New(t, "signal")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		state := t.TempDir()
		p := serve(t, ns, state, "--xdp", "off")
		if code := p.stop(s); code != 0 {
			t.Errorf("%v: exit code %d, want 0", s, code)
		}
		st, err := store.Open(filepath.Join(state, "kdht.db"), store.Options{LockTimeout: time.Millisecond})
		if err != nil {
			t.Fatalf("%v: the store was not closed: %v", s, err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	p := launch(t, ns, "serve", "--state", t.TempDir(), "--http", "off", "--listen", "192.0.2.1:6881", "--bootstrap", "none")
	if code := p.wait(); code != 1 || !strings.Contains(p.text(), "192.0.2.1:6881") {
		t.Errorf("exit code %d, want 1 and the address that is not ours", code)
	}
}

// TestSetAside starts with a file that is no database.
func TestSetAside(t *testing.T) {
	testenv.NeedNetNS(t)
	ns, state := netns.New(t, "aside"), t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "kdht.db"), []byte("This is not a database, whatever its name says."), 0o600); err != nil {
		t.Fatal(err)
	}
	r := serve(t, ns, state, "--xdp", "off").report()
	if !strings.HasPrefix(r.Store.SetAside, filepath.Join(state, "kdht.db")) || r.Store.SetAsideReason == "" || len(r.Problems) != 1 {
		t.Errorf("store is %+v, problems %q", r.Store, r.Problems)
	}
	if _, err := os.Stat(r.Store.SetAside); err != nil {
		t.Error(err)
	}
}

// TestPages asks the running program for everything that it shows.
func TestPages(t *testing.T) {
	testenv.NeedXDP(t)
	p := newPair(t)
	running := serve(t, p.node, p.state)
	for _, a := range p.addrs {
		if wrong := query(dial(t, p.gen, a), 0, patience); wrong != "" {
			t.Error(wrong)
		}
	}
	r := running.until("ready", func(r status.Report) bool { return r.Ready })
	for path, want := range map[string][]string{
		"/":        {"The node answers", r.Families[0].ID, r.Families[1].ID, "generic", "198.18.3.1:6881", r.Host.Kernel},
		"/status":  {`"ready": true`, `"mode": "generic"`},
		"/healthz": {"ok\n"},
		"/readyz":  {"ready\n"},
		"/metrics": {
			`kdht_kernel_datagrams_total{method="ping",reason="answered"} 2`,
			`kdht_kernel_interface_info{driver="veth",interface="eth0",mode="generic",wanted="auto"} 1`,
			`kdht_kernel_events_total{event="sighting"} 2`, `kdht_task_running{task="kernel_half"} 1`, `kdht_ready 1`,
		},
	} {
		resp, err := running.client().Get("http://" + httpAddr + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		for _, w := range want {
			if resp.StatusCode != 200 || !strings.Contains(string(b), w) {
				t.Errorf("%s: status %d, lacks %q", path, resp.StatusCode, w)
			}
		}
	}
	if r.XDP.Execution == "unknown" || r.Store.Path != filepath.Join(p.state, "kdht.db") || r.Store.FileBytes == 0 || r.PID == 0 {
		t.Errorf("report is %+v", r)
	}
}
