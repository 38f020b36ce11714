package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the program itself where a test asks for a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("KDHT_TEST_PROCESS") != "" {
		main()
	}
	os.Exit(m.Run())
}

// server is a running "kdht serve".
type server struct {
	cmd       *exec.Cmd
	udp, http string      // addresses
	lines     chan string // what it logs after it became ready; closed at its end
}

// serve starts a node of its own network on loopback and waits until it is ready.
func serve(t *testing.T, state string, args ...string) *server {
	t.Helper()
	if !slices.Contains(args, "--bootstrap") {
		args = append(args, "--bootstrap", "none")
	}
	args = append([]string{"serve", "--state", state, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--network", "private",
		"--xdp", "off", "--log-format", "json"}, args...)
	s := &server{cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 1000)}
	s.cmd.Env = append(os.Environ(), "KDHT_TEST_PROCESS=1")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // most have ended
		for range s.lines {
		}
		_ = s.cmd.Wait()
	})
	ready := make(chan struct{})
	go func() {
		defer close(s.lines)
		isReady, said, in := false, false, bufio.NewScanner(stderr)
		for in.Scan() {
			var l struct {
				Msg  string `json:"msg"`
				HTTP string `json:"http"`
				IPv4 struct{ Listen []string }
			}
			if err := json.Unmarshal(in.Bytes(), &l); err != nil {
				l.Msg = ""
			}
			if l.Msg == "serving" && len(l.IPv4.Listen) == 1 {
				s.udp, s.http = l.IPv4.Listen[0], l.HTTP
			}
			s.lines <- in.Text()
			if l.Msg == "ready" {
				isReady = true
			}
			if isReady && s.udp != "" && !said {
				close(ready)
				said = true
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("the node is not ready")
	}
	return s
}

// stop sends a signal and returns the exit code.
func (s *server) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for range s.lines {
	}
	_ = s.cmd.Wait() // the state says it
	return s.cmd.ProcessState.ExitCode()
}

func TestServeProcess(t *testing.T) {
	state := t.TempDir()
	for i, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := serve(t, state)
		if i == 0 {
			if r := kdht(t, client(s.udp, "put", "Hello World!")...); r.code != exitOK || r.stdout != id40+"\n" {
				t.Fatalf("%+v", r)
			}
		}
		// What was acknowledged survives the restart.
		if r := kdht(t, client(s.udp, "get", id40)...); r.code != exitOK || r.stdout != "Hello World!" {
			t.Errorf("%+v", r)
		}
		r := kdht(t, "status", "--http", s.http)
		if r.code != exitOK || !strings.Contains(r.stdout, s.udp) || !strings.Contains(r.stdout, "private") {
			t.Errorf("%+v", r)
		}
		if code := s.stop(t, sig); code != exitOK {
			t.Errorf("exit code %d after %s", code, sig)
		}
	}
	s := serve(t, state)
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range s.lines {
	}
	s = serve(t, state)
	if r := kdht(t, client(s.udp, "get", id40)...); r.stdout != "Hello World!" {
		t.Errorf("after a crash: %+v", r)
	}
}

func TestServeFailures(t *testing.T) {
	state := t.TempDir()
	running := serve(t, state)
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"state in use":      {"--state", state},
		"state is a file":   {"--state", file},
		"UDP port in use":   {"--listen", taken.LocalAddr().String()},
		"TCP port in use":   {"--http", running.http},
		"address of others": {"--listen", "192.0.2.1:6881"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], append([]string{"serve", "--state", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "off",
				"--network", "private", "--xdp", "off"}, args...)...)
			cmd.Env = append(os.Environ(), "KDHT_TEST_PROCESS=1")
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != exitFailure {
				t.Errorf("%v: %s", err, out)
			}
			if !strings.Contains(string(out), "kdht: the node stopped: ") || !strings.Contains(string(out), args[1]) {
				t.Errorf("the message does not say what is wrong: %s", out)
			}
			t.Logf("%s", out)
		})
	}
}
