package box_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/status"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

var programPath = filepath.Join(os.TempDir(), fmt.Sprintf("kdht-box-test-%d", os.Getpid()))

// program builds the program once.
var program = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "build", "-o", programPath, "kdht/appliance/kdht")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // there are no libraries in an image
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return programPath, nil
})

func TestMain(m *testing.M) {
	if dir := os.Getenv(cutDir); dir != "" {
		bootThere(dir)
	}
	code := m.Run()
	_ = os.Remove(programPath) // if it was built
	os.Exit(code)
}

// machine is a root directory with the program in it, and a network namespace: what the program finds where gokrazy
// starts it, as far as it looks.
type machine struct {
	t    *testing.T
	ns   *netns.NS
	root string
	log  *bytes.Buffer
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	testenv.NeedNetNS(t)
	path, err := program()
	if err != nil {
		t.Fatal(err, path)
	}
	m := &machine{t: t, ns: netns.New(t, "box"), root: t.TempDir(), log: new(bytes.Buffer)}
	mount := func(kind, dir string) {
		t.Helper()
		dir = filepath.Join(m.root, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	mount("tmpfs", ".") // on no disk, so that nothing here is taken for a boot partition
	mount("proc", "proc")
	if err := m.ns.Do(func() error { mount("sysfs", "sys"); return nil }); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", "tmp")
	for _, dir := range []string{"perm", "dev", "user", "gokrazy"} { // no devices, so no disks

		if err := os.Mkdir(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write("dev/kmsg", "")
	m.write("gokrazy/init", "")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.root, "user/kdht"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	other := netns.New(t, "peer")
	netns.Veth(t,
		netns.End{NS: m.ns, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.9.1/24")}},
		netns.End{NS: other, Name: "eth0"})
	return m
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// start starts the program and waits until its status page answers. The function that it returns stops it.
func (m *machine) start() (status.Report, func()) {
	m.t.Helper()
	cmd := exec.Command("/user/kdht", "serve", "--appliance", "--bootstrap", "none")
	cmd.Dir = "/"
	cmd.Stderr = m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS}
	if err := m.ns.Start(cmd); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-exited; err != nil {
			m.t.Errorf("stopped with %v:\n%s", err, m.log)
		}
	})
	m.t.Cleanup(stop)
	return m.report(exited), stop
}

// report waits for a report of a node that is ready.
func (m *machine) report(exited chan error) (r status.Report) {
	m.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var conn net.Conn
		err := m.ns.Do(func() (err error) { conn, err = net.Dial("tcp", "198.18.9.1:80"); return err })
		if err == nil {
			client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
			res, errGet := client.Get("http://box/status")
			if err = errGet; err == nil {
				err = json.NewDecoder(res.Body).Decode(&r)
				_ = res.Body.Close() // read to its end
			}
			client.CloseIdleConnections()
		}
		if err == nil && r.Ready {
			return r
		}
		select {
		case err := <-exited:
			exited <- err
			m.t.Fatalf("ended with %v:\n%s", err, m.log)
		case <-time.After(20 * time.Millisecond): // nothing tells when it listens
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not ready in time: %v\n%s", err, m.log)
		}
	}
}

// waitConsole waits until the console shows a text.
func (m *machine) waitConsole(want string) {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(m.read("dev/kmsg"), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("the console does not show %q:\n%s", want, m.read("dev/kmsg"))
		}
	}
}

// TestProgram runs `kdht serve --appliance` where it finds what it finds under gokrazy: state in /perm, page on port 80,
// name, console; then with a /perm that cannot be written.
func TestProgram(t *testing.T) {
	m := newMachine(t)
	if err := os.MkdirAll(filepath.Join(m.root, "perm/kdht"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.write("perm/kdht/kdht.hujson", `{"hostname": "attic", "network": "private"}`)
	r, stop := m.start()
	if r.Host.Name != "attic" || r.Network != "private" || r.Store.Path != "/perm/kdht/kdht.db" {
		t.Errorf("name %q, network %q, store %q", r.Host.Name, r.Network, r.Store.Path)
	}
	if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, "boot partition was not found") }) {
		t.Errorf("problems: %q", r.Problems)
	}
	id := r.Families[0].ID
	m.waitConsole("<13>kdht: attic, version ")
	m.waitConsole("IPv4 node ID " + id)
	m.waitConsole("<13>kdht: addresses 198.18.9.1; status page http://198.18.9.1/\n")
	m.waitConsole("<13>kdht: ready in the private network, ")
	if err := m.ns.IP("addr", "add", "198.18.9.7/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	m.waitConsole("<13>kdht: addresses 198.18.9.1, 198.18.9.7; status page http://198.18.9.1/\n")
	stop()
	if lines := strings.Count(m.read("dev/kmsg"), "\n"); lines > 15 {
		t.Errorf("the console shows %d lines:\n%s", lines, m.read("dev/kmsg"))
	}

	if err := unix.Mount("", filepath.Join(m.root, "perm"), "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(m.root, "perm"), unix.MNT_DETACH) })
	m.write("dev/kmsg", "")
	r, _ = m.start()
	if r.Store.Path != "/tmp/kdht/kdht.db" || r.Store.MaxBytes != 16<<20 {
		t.Errorf("store %q of %d bytes", r.Store.Path, r.Store.MaxBytes)
	}
	if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, "everything is kept in memory") }) {
		t.Errorf("problems: %q", r.Problems)
	}
	m.waitConsole("everything is kept in memory")
}
