package admin_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/appliance/status"
)

// freePort is a UDP address of this machine with a port that is free.
func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// TestProgram has the program itself restarted over the tailnet, and given another configuration: the same process goes on, started
// anew, and nobody need watch over it.
func TestProgram(t *testing.T) {
	n := newTailnet(t, nil)
	dir := t.TempDir()
	program, file := filepath.Join(dir, "kdht"), filepath.Join(dir, "kdht.hujson")
	if out, err := exec.Command("go", "build", "-o", program, "../kdht").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := `{
	"listen": "` + freePort(t) + `", "http": "off", "network": "private", "discovery": "off", "bootstrap": "none", "xdp": { "mode": "off" },
	"tailnet": { "mode": "on", "controlURL": "` + n.url + `", "hostname": "box", "operators": ["user-2@fake-control.example.net"] },
}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &logs{}
	cmd := exec.Command(program, "serve", "--config", file, "--state", filepath.Join(dir, "state"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the program ended with %v", err)
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Error("the program did not stop")
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	eventually(t, func() bool { return n.control.NumNodes() == 1 }, func() string { return "the program does not join\n" + log.String() })
	p := n.peer("operator")
	for _, x := range n.control.AllNodes() {
		if x.Hostinfo.Hostname() == "box" {
			p.box = x.Addresses[0].Addr().String()
		}
	}
	p.rolesAre("viewer, operator")
	report := func() (r status.Report) {
		if a, err := p.do("GET", "/status", nil); err == nil && a.status == 200 {
			_ = json.Unmarshal([]byte(a.body), &r)
		}
		return r
	}
	first := report()
	if first.PID != cmd.Process.Pid {
		t.Fatalf("process %d, want %d", first.PID, cmd.Process.Pid)
	}
	p.must(202, "POST", "/admin/restart", "")
	var second status.Report
	eventually(t, func() bool { second = report(); return second.Started.After(first.Started) }, func() string { return "it was not started anew" })
	if second.PID != first.PID {
		t.Errorf("process %d, then %d", first.PID, second.PID)
	}
	p.must(202, "PUT", "/admin/config", strings.Replace(text, `"http": "off"`, `"http": "off", "store": { "maxBytes": "77MiB" }`, 1))
	var third status.Report
	eventually(t, func() bool { third = report(); return third.Store.MaxBytes == 77<<20 }, func() string { return "the new configuration is not in force" })
	eventually(t, func() bool {
		a, err := p.do("GET", "/admin/config/versions", nil)
		return err == nil && strings.Contains(a.body, `"in force"`) && !strings.Contains(a.body, `"on trial"`)
	}, func() string { return "the new configuration was not kept" })
}
