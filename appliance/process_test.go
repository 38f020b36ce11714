package appliance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/bpf/netns"
)

// built is where the program was built, empty if no test needed it.
var built string

// program builds the program once for all tests.
var program = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "kdht-appliance"); err != nil {
		return "", err
	}
	if err := os.Chmod(built, 0o755); err != nil { // other users run it too
		return "", err
	}
	return fleet.Build(context.Background(), built)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built) // a directory for temporary files is a good enough place for what cannot be removed
	}
	os.Exit(code)
}

// process is the program running in a namespace.
type process struct {
	t    *testing.T
	ns   *netns.NS
	cmd  *exec.Cmd
	http string // address of the status page

	lines chan string   // of its log, as they come
	ended chan struct{} // closed when it has ended and all its lines were read
	mu    sync.Mutex
	log   strings.Builder
}

const httpAddr = "127.0.0.1:8080"

// exempt takes the addresses of the tests from the limits per source, which one address that makes a load meets.
const exempt = "limits.exempt=198.18.0.0/15,192.0.2.0/24,2001:db8::/32"

// serve starts the program in a namespace with a state directory and waits until it serves. args come after those
// that isolate it.
func serve(t *testing.T, ns *netns.NS, state string, args ...string) *process {
	t.Helper()
	p := launch(t, ns, append([]string{"serve", "--state", state, "--http", httpAddr, "--bootstrap", "none", "--set", exempt}, args...)...)
	p.waitLog("msg=serving")
	return p
}

// launch starts the program in a namespace.
func launch(t *testing.T, ns *netns.NS, args ...string) *process {
	t.Helper()
	return launchAs(t, ns, nil, args...)
}

// launchAs starts the program in a namespace as another user.
func launchAs(t *testing.T, ns *netns.NS, user *syscall.Credential, args ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, ns: ns, cmd: exec.Command(path, args...), http: httpAddr, lines: make(chan string, 1000), ended: make(chan struct{})}
	if user != nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := p.cmd.Start
	if ns != nil {
		start = func() error { return ns.Start(p.cmd) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			p.mu.Lock()
			p.log.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			select {
			case p.lines <- s.Text():
			default: // nobody waits for one
			}
		}
		_ = p.cmd.Wait() // its outcome is in ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // so that it leaves no pins
		select {
		case <-p.ended:
		case <-time.After(appliance.StopTimeout):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("log of %v:\n%s", p.cmd.Args[1:], p.text())
		}
	})
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// waitLog waits for a log line that contains all of words, and returns it.
func (p *process) waitLog(words ...string) string {
	p.t.Helper()
	timeout := time.After(30 * time.Second)
lines:
	for {
		select {
		case line := <-p.lines:
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return line
		case <-p.ended:
			if len(p.lines) == 0 {
				p.t.Fatalf("the process ended without a log line with %q: %v", words, p.cmd.ProcessState)
			}
		case <-timeout:
			p.t.Fatalf("no log line with %q", words)
		}
	}
}

// stop sends a signal and returns the exit code once the process has ended, -1 if a signal killed it.
func (p *process) stop(s syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// client returns an HTTP client that connects from within the process's namespace.
func (p *process) client() *http.Client {
	dial := func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		if p.ns == nil {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		errDo := p.ns.Do(func() error { c, err = (&net.Dialer{}).DialContext(ctx, network, addr); return nil })
		return c, errors.Join(err, errDo)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

// report asks for the status.
func (p *process) report() (r status.Report) {
	p.t.Helper()
	resp, err := p.client().Get("http://" + p.http + "/status?format=json")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// until asks for the status, whenever the process has logged something and at least now and then, until ok holds.
func (p *process) until(what string, ok func(status.Report) bool) status.Report {
	p.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		r := p.report()
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: did not happen; XDP is %+v", what, r.XDP)
		}
		select {
		case <-p.lines:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// nic returns what a report says of an interface.
func nic(r status.Report, name string) status.NIC {
	for _, n := range r.XDP.NICs {
		if n.Name == name {
			return n
		}
	}
	return status.NIC{}
}
