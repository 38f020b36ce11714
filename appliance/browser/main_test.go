package browser

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds how long a test waits for something.
const patience = 20 * time.Second

// program is the path of the program under test, and axe the source of axe-core.
var program, axe string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kdht-browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "kdht")
	build := exec.Command("go", "build", "-o", program, "./appliance/kdht")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	if axe, err = installAxe(filepath.Join(dir, "axe")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if os.Getenv("KDHT_REQUIRE") == "1" {
			return 1
		}
	}
	return m.Run()
}

// installAxe gets axe-core, an engine that finds what keeps people out of a page, from npm. The lock file has its hash.
func installAxe(dir string) (string, error) {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "axe"))); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	return string(b), err
}

// missing skips a test for which something is missing; with KDHT_REQUIRE=1 the test fails.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("KDHT_REQUIRE") == "1" {
		t.Fatalf("KDHT_REQUIRE=1 and "+format, args...)
	}
	t.Skipf(format, args...)
}

// box is a running program.
type box struct {
	url string // of its page, without a slash at the end
	udp string // where the node serves
	cmd *exec.Cmd
}

// start runs a node of a private network on an address and waits until it serves. prefix is what runs the program, if
// something does.
func start(t *testing.T, prefix []string, address, bootstrap string, args ...string) *box {
	t.Helper()
	all := append(prefix, program, "serve", "--network", "private", "--state", t.TempDir(), "--listen", address+":0", "--http", address+":0",
		"--bootstrap", bootstrap, "--set", "discovery=off")
	cmd := exec.Command(all[0], append(all[1:], args...)...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &box{cmd: cmd}
	var log struct {
		sync.Mutex
		text string
	}
	serving, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for in := bufio.NewScanner(out); in.Scan(); {
			log.Lock()
			log.text += in.Text() + "\n"
			log.Unlock()
			if m := servingLine.FindStringSubmatch(in.Text()); m != nil {
				b.udp, b.url = m[1], "http://"+m[2]
				close(serving)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = cmd.Wait()
		if t.Failed() && os.Getenv("KDHT_LOGS") != "" {
			t.Logf("%s:\n%s", address, log.text)
		}
	})
	select {
	case <-serving:
	case <-ended:
		t.Fatal("the node ended")
	case <-time.After(patience):
		t.Fatal("the node does not serve")
	}
	return b
}

var servingLine = regexp.MustCompile(`msg=serving .*listen=\[?(\S+?)\]? .*http=(\S+)`)

// fleet runs n nodes on loopback addresses and waits until they know each other.
func fleet(t *testing.T, n int, args ...string) []*box {
	t.Helper()
	args = append([]string{"--xdp", "off"}, args...)
	boxes := []*box{start(t, nil, "127.0.6.1", "none", args...)}
	for i := 1; i < n; i++ {
		boxes = append(boxes, start(t, nil, fmt.Sprintf("127.0.6.%d", i+1), boxes[0].udp, args...))
	}
	good := regexp.MustCompile(fmt.Sprintf(`"good": %d`, n-1))
	for _, b := range boxes {
		eventually(t, "the nodes do not know each other", func() bool { return good.MatchString(b.get(t, "/status?format=json")) })
	}
	return boxes
}

// eventually waits for something to become true.
func eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(otherwise)
		}
	}
}
