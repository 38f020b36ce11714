// Package netns makes network namespaces with unique names, joined by veth pairs, for tests, the benchmark and the
// demonstration fleet. It drives iproute2 and needs root.
//
// Every namespace goes away when it is closed, when the test that made it ends, or, by a small janitor process, when
// the process that made it dies in whatever way; processes still running in a namespace are then killed.
package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// TB is the part of testing.TB that this package uses.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// NS is a network namespace, known to `ip netns` by its name. Its methods are safe for concurrent use.
type NS struct {
	name string
	file *os.File // keeps the namespace reachable whatever becomes of the name

	mu      sync.Mutex
	closers []func() error
	closed  bool
}

var (
	serial   atomic.Uint32
	badLabel = regexp.MustCompile(`[^a-zA-Z0-9]+`)
)

// New makes a namespace with lo up that lives as long as the test.
func New(t TB, label string) *NS {
	t.Helper()
	ns, err := Make(label)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return ns
}

// Make makes a namespace with lo up; the caller closes it. The label becomes part of the name, for people.
func Make(label string) (*NS, error) {
	if err := startJanitor(); err != nil {
		return nil, fmt.Errorf("netns: janitor: %w", err)
	}
	name := prefix() + strconv.Itoa(int(serial.Add(1)))
	if label = badLabel.ReplaceAllString(label, ""); label != "" {
		name += "-" + label
	}
	if err := run("ip", "netns", "add", name); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	ns := &NS{name: name, file: file}
	if err := ns.IP("link", "set", "lo", "up"); err != nil {
		_ = ns.Close()
		return nil, err
	}
	return ns, nil
}

// prefix begins the name of every namespace of this process, and of no other living process.
func prefix() string { return fmt.Sprintf("kdht%d-", os.Getpid()) }

// Name is the name for `ip netns exec`.
func (ns *NS) Name() string { return ns.name }

// Do calls f on a thread of its own inside the namespace. Sockets that f opens and processes that it starts belong
// to the namespace for good; goroutines that it starts do not. f must not set Pdeathsig on a process it starts: the
// thread ends with f.
func (ns *NS) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread together with the goroutine, so that no other code ever
		// runs in the namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("netns %s: setns: %w", ns.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Start starts cmd inside the namespace.
func (ns *NS) Start(cmd *exec.Cmd) error { return ns.Do(cmd.Start) }

// Output runs a program inside the namespace and returns its standard output; an error holds its standard error.
func (ns *NS) Output(name string, args ...string) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := ns.Start(cmd); err != nil {
		return nil, fmt.Errorf("netns %s: %s: %w", ns.name, name, err)
	}
	if err := cmd.Wait(); err != nil {
		return out.Bytes(), fmt.Errorf("netns %s: %s %s: %w: %s", ns.name, name, strings.Join(args, " "), err,
			bytes.TrimSpace(errOut.Bytes()))
	}
	return out.Bytes(), nil
}

// IP runs the ip command inside the namespace.
func (ns *NS) IP(args ...string) error {
	return run("ip", append([]string{"-n", ns.name}, args...)...)
}

// Batch runs lines of ip commands inside the namespace in one process, up to the first that fails.
func (ns *NS) Batch(lines ...string) error { return batch([]string{"-n", ns.name}, lines) }

// Sysctl sets a network parameter of the namespace, such as "net.ipv4.ip_forward".
func (ns *NS) Sysctl(key, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	return ns.Do(func() error { return os.WriteFile(path, []byte(value), 0) })
}

// OnClose has f called when the namespace is closed, before it is deleted, last in first out.
func (ns *NS) OnClose(f func() error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.closers = append(ns.closers, f)
}

// Close deletes the namespace, and kills what still runs in it. Closing again does nothing.
func (ns *NS) Close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.closed {
		return nil
	}
	ns.closed = true
	var first error
	for i := len(ns.closers) - 1; i >= 0; i-- {
		if err := ns.closers[i](); err != nil && first == nil {
			first = err
		}
	}
	ns.killAll()
	if err := ns.file.Close(); err != nil && first == nil {
		first = err
	}
	if err := run("ip", "netns", "del", ns.name); err != nil && first == nil {
		first = err
	}
	return first
}

// killAll kills the processes of the namespace other than this one.
func (ns *NS) killAll() {
	out, err := exec.Command("ip", "netns", "pids", ns.name).Output()
	if err != nil {
		return // `ip netns del` will say what is wrong
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
	}
}

// run runs a program and returns its output as the error's text.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("netns: %s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// batch feeds lines to one `ip -batch`.
func batch(options, lines []string) error {
	cmd := exec.Command("ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netns: ip %s -batch: %w: %s\n%s", strings.Join(options, " "), err, bytes.TrimSpace(out),
			strings.Join(lines, "\n"))
	}
	return nil
}
