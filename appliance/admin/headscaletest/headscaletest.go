// Package headscaletest runs a real control server, Headscale, for tests, and a relay. It is built from the module in the folder
// headscale beside this one, which pins it and is no dependency of the program; that takes minutes the first time.
package headscaletest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kdht/bpf/netns"
)

// Ports of the control server, whose protocol needs no TLS, and of the relay (DERP), which nodes reach by TLS alone.
const (
	controlPort = 8080
	relayPort   = 8443
)

// Options say where a control server runs, and what for.
type Options struct {
	// Dir is a directory for its files.
	Dir string
	// Addr is its address, and that of its relay.
	Addr netip.Addr
	// NS is the namespace that has the address; nil: that of this process.
	NS *netns.NS
	// Policy is that of the tailnet, in HuJSON.
	Policy string
}

// Server is a control server that runs.
type Server struct {
	// URL is what its nodes have to be given.
	URL string

	t       testing.TB
	o       Options
	program string
	stop    func()
}

// Build builds Headscale, unless it is there already, and returns its path.
func Build(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("headscale: where are its sources: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	path := filepath.Join(dir, "bin", "headscale")
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(dir, "appliance", "admin", "headscale"), "-o", path, "github.com/juanfont/headscale/cmd/headscale")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -tags=netgo -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("headscale: %w\n%s", err, out)
	}
	return path, nil
}

const configuration = `
server_url: http://ADDR:CONTROL
listen_addr: ADDR:CONTROL
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
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
    automatically_add_embedded_derp_region: false
  urls: []
  paths: [DIR/derp.yaml]
  auto_update_enabled: false
disable_check_updates: true
database: { type: sqlite, sqlite: { path: DIR/db.sqlite, write_ahead_log: true } }
policy: { mode: file, path: DIR/policy.hujson }
dns: { magic_dns: true, base_domain: tail.example, override_local_dns: false, nameservers: { global: [] } }
unix_socket: DIR/headscale.sock
unix_socket_permission: "0700"
log: { level: warn }
`

// relays tells the nodes where the relay is, and by what they know its certificate.
const relays = `
regions:
  999:
    regionid: 999
    regioncode: test
    regionname: test
    nodes:
      - { name: "999", regionid: 999, hostname: ADDR, ipv4: ADDR, ipv6: none, stunport: 3478, derpport: RELAY, certname: "sha256-raw:CERT" }
`

// Start runs a control server, a program that [Build] has built, until the test ends, and waits until it answers.
func Start(t testing.TB, program string, o Options) *Server {
	t.Helper()
	s := &Server{URL: fmt.Sprintf("http://%s:%d", o.Addr, controlPort), t: t, o: o, program: program}
	cert, err := s.relay()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.NewReplacer("DIR", o.Dir, "ADDR", o.Addr.String(), "CONTROL", fmt.Sprint(controlPort), "RELAY", fmt.Sprint(relayPort), "CERT", cert)
	for name, text := range map[string]string{"config.yaml": words.Replace(configuration), "derp.yaml": words.Replace(relays), "policy.hujson": o.Policy} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(o.Dir, "headscale.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command("serve")
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.in(cmd.Start); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
		_ = log.Close()
	}()
	s.stop = func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-ended
	}
	t.Cleanup(func() {
		s.Stop()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("Headscale:\n%s", text)
		}
	})
	for deadline := time.Now().Add(time.Minute); s.command("users", "list").Run() != nil; {
		select {
		case <-ended:
			t.Fatal("Headscale has ended")
		case <-time.After(100 * time.Millisecond): // nothing tells when it answers
		}
		if time.Now().After(deadline) {
			t.Fatal("Headscale does not answer")
		}
	}
	return s
}

// Stop ends the control server, and the relay with it. Again it does nothing.
func (s *Server) Stop() { s.stop() }

// in calls f in the namespace of the server.
func (s *Server) in(f func() error) error {
	if s.o.NS == nil {
		return f()
	}
	return s.o.NS.Do(f)
}

// listen opens a socket at an address of the server.
func (s *Server) listen(port int) (l net.Listener, err error) {
	err = s.in(func() error {
		l, err = net.Listen("tcp", netip.AddrPortFrom(s.o.Addr, uint16(port)).String())
		return err
	})
	return l, err
}

func (s *Server) command(args ...string) *exec.Cmd {
	return exec.Command(s.program, append([]string{"-c", filepath.Join(s.o.Dir, "config.yaml")}, args...)...)
}

// Run runs a command of Headscale and returns the last line of what it prints.
func (s *Server) Run(args ...string) string {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(string(s.output(args...))), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func (s *Server) output(args ...string) []byte {
	s.t.Helper()
	cmd := s.command(args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("headscale %v: %v %s%s", args, err, out, said.String())
	}
	return out
}

// Users makes users, whose numbers are 1, 2 and so on in a server that has none.
func (s *Server) Users(names ...string) {
	s.t.Helper()
	for _, n := range names {
		s.Run("users", "create", n)
	}
}

// Key makes an auth key that can be used once; args are of Headscale's command: "-u" with the number of a user, or "--tags".
func (s *Server) Key(args ...string) string {
	s.t.Helper()
	return s.Run(append([]string{"preauthkeys", "create", "-e", "1h"}, args...)...)
}

// Node is what the control server knows of a node.
type Node struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
	Key  string `json:"node_key"`
}

// Nodes lists the nodes with a name.
func (s *Server) Nodes(name string) (named []Node) {
	s.t.Helper()
	var all []Node
	if b := s.output("nodes", "list", "-o", "json"); json.Unmarshal(b, &all) != nil {
		s.t.Fatalf("headscale nodes list: %s", b)
	}
	for _, n := range all {
		if n.Name == name {
			named = append(named, n)
		}
	}
	return named
}
