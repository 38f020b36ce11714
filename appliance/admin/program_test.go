package admin_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kdht/appliance/admin/change"
	"kdht/appliance/status"
	"kdht/bpf/testenv"
)

// build builds the program, once for all tests.
var build = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "kdht-program-")
	if err != nil {
		return "", err
	}
	built = dir
	path = filepath.Join(dir, "kdht")
	if out, err := exec.Command("go", "build", "-o", path, "../kdht").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// built is the directory of the program, for TestMain to remove.
var built string

// program is the program itself, with a configuration file, in a tailnet.
type program struct {
	t    *testing.T
	dir  string
	file string
	log  *logs
	cmd  *exec.Cmd
	gone chan error
}

// run starts the program, which is to be in the tailnet, and gives a peer who may change its configuration.
func (n *tailnet) run(t *testing.T, text string) (*program, *peer) {
	t.Helper()
	x := &program{t: t, dir: t.TempDir(), log: &logs{}}
	x.file = filepath.Join(x.dir, "kdht.hujson")
	if err := os.WriteFile(x.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x.start()
	t.Cleanup(func() {
		x.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Log(x.log)
		}
	})
	box := ""
	eventually(t, func() bool {
		for _, x := range n.control.AllNodes() {
			if len(x.Addresses) > 0 {
				box = x.Addresses[0].Addr().String()
			}
		}
		return box != ""
	}, func() string { return "the program does not join\n" + x.log.String() })
	p := n.peer("operator") // the second to join is user-2
	p.box = box
	return x, p
}

func (x *program) start() {
	x.t.Helper()
	path, err := build()
	if err != nil {
		x.t.Fatal(err)
	}
	x.cmd, x.gone = exec.Command(path, "serve", "--config", x.file, "--state", filepath.Join(x.dir, "state")), make(chan error, 1)
	x.cmd.Stdout, x.cmd.Stderr = x.log, x.log
	if err := x.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	cmd, gone := x.cmd, x.gone
	go func() { gone <- cmd.Wait() }()
}

// stop ends the program. By SIGTERM it stops cleanly.
func (x *program) stop(by syscall.Signal) {
	_ = x.cmd.Process.Signal(by)
	select {
	case err := <-x.gone:
		if err != nil && by == syscall.SIGTERM {
			x.t.Errorf("the program ended with %v", err)
		}
	case <-time.After(patience):
		_ = x.cmd.Process.Kill()
		x.t.Error("the program did not stop")
	}
}

// report is what the program says of itself, or nothing.
func (p *peer) report() (r status.Report) {
	if a, err := p.do("GET", "/status", nil); err == nil && a.status == 200 {
		_ = json.Unmarshal([]byte(a.body), &r)
	}
	return r
}

// versions are those of the program's configuration; none while it does not answer.
func (p *peer) versions() (all []change.Version) {
	if a, err := p.do("GET", "/admin/config/versions", nil); err == nil && a.status == 200 {
		_ = json.Unmarshal([]byte(a.body), &all)
	}
	return all
}

// TestProgram has the program itself restarted over the tailnet, and given another configuration: the same process goes on, started
// anew, and nobody need watch over it.
func TestProgram(t *testing.T) {
	t.Parallel()
	n := newTailnet(t, nil)
	text := `{
	"listen": "` + testenv.FreeAddress(t) + `", "http": "off", "network": "private", "discovery": "off", "bootstrap": "none", "xdp": { "mode": "off" },
	"tailnet": { "mode": "on", "controlURL": "` + n.url + `", "hostname": "box", "operators": ["user-2@fake-control.example.net"] },
}`
	x, p := n.run(t, text)
	p.rolesAre("viewer, operator")
	first := p.report()
	if first.PID != x.cmd.Process.Pid {
		t.Fatalf("process %d, want %d", first.PID, x.cmd.Process.Pid)
	}
	p.must(202, "POST", "/admin/restart", "")
	var second status.Report
	eventually(t, func() bool { second = p.report(); return second.Started.After(first.Started) }, func() string { return "it was not started anew" })
	if second.PID != first.PID {
		t.Errorf("process %d, then %d", first.PID, second.PID)
	}
	p.must(202, "PUT", "/admin/config", strings.Replace(text, `"http": "off"`, `"http": "off", "store": { "maxBytes": "77MiB" }`, 1))
	var third status.Report
	eventually(t, func() bool { third = p.report(); return third.Store.MaxBytes == 77<<20 }, func() string { return "the new configuration is not in force" })
	eventually(t, func() bool { v := p.versions(); return len(v) > 0 && v[0].Outcome == "in force" }, func() string { return "the new configuration was not kept" })
}

// TestProgramTakesBack puts configurations that are right and break something, into the program as it runs, kills it in the trial as a loss
// of power would, and has the trial end soon: it goes back by itself, with the reason, and its operator reaches it again. One
// that the program cannot even serve with it takes back at once.
func TestProgramTakesBack(t *testing.T) {
	for name, c := range map[string]struct {
		old, replaced string // of the configuration
		atOnce        bool
		reason        string
	}{
		"bootstrap that no node of the network can be": {`"network": "private"`, `"network": "public"`, false, "bootstrap: "},
		"control server that is not there":             {`"controlURL": "http://`, `"controlURL": "http://127.0.0.1:1/`, false, "the admin plane is not in the tailnet"},
		"address that is not here":                     {`"listen": "127.0.0.1`, `"listen": "192.0.2.1`, true, "the program could not serve with it: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := start(t, options{}) // so that there is a network
			n := newTailnet(t, nil)
			text := `{
	"listen": "` + testenv.FreeAddress(t) + `", "http": "off", "network": "private", "discovery": "off", "xdp": { "mode": "off" },
	"bootstrap": ["` + other.host.Report().Families[0].Listen[0].String() + `"],
	"tailnet": { "mode": "on", "controlURL": "` + n.url + `", "hostname": "box", "operators": ["user-2@fake-control.example.net"], "updaters": ["user-2@fake-control.example.net"] },
}`
			x, p := n.run(t, text)
			p.rolesAre("viewer, operator, updater")
			eventually(t, func() bool { r := p.report(); return r.Ready && r.Families[0].Good == 1 }, func() string { return "the program does not join the network\n" + x.log.String() })
			changed := strings.Replace(text, c.old, c.replaced, 1)
			if changed == text {
				t.Fatal("nothing is changed")
			}
			p.must(202, "PUT", "/admin/config?within=90s", changed)
			if !c.atOnce {
				x.hurry(8 * time.Second)
			}
			var all []change.Version
			eventually(t, func() bool { all = p.versions(); return len(all) == 2 && all[0].TakenBack() }, func() string {
				return fmt.Sprintf("the change is not taken back: %+v\n%s", all, x.log)
			})
			if !strings.HasPrefix(all[0].Outcome, "taken back: "+c.reason) || all[1].Outcome != "in force" {
				t.Errorf("versions: %+v", all)
			}
			if b, err := os.ReadFile(x.file); err != nil || string(b) != text {
				t.Errorf("the file has %q, %v", b, err)
			}
			eventually(t, func() bool { return p.report().Ready }, func() string { return "the program is not well with the configuration of before\n" + x.log.String() })
			if audit := p.must(200, "GET", "/admin/audit", "").body; !strings.Contains(audit, "taken back: "+c.reason) {
				t.Errorf("the audit log lacks the reason:\n%s", audit)
			}
		})
	}
}

// hurry kills the program in a trial, and starts it again with the trial to end after a time.
func (x *program) hurry(within time.Duration) {
	x.t.Helper()
	x.stop(syscall.SIGKILL)
	path := filepath.Join(x.dir, "state", "config", "trial.json")
	b, err := os.ReadFile(path)
	if err != nil {
		x.t.Fatal(err)
	}
	var trial change.Trial
	if err := json.Unmarshal(b, &trial); err != nil {
		x.t.Fatal(err)
	}
	trial.Within = within
	if b, err = json.Marshal(trial); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	x.start()
}
