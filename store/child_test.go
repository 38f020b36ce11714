package store_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"kdht/store"
)

// Some tests need another process: they run this test binary again as a child, with
// the name of its part in the environment.
const childEnv = "KDHT_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	part, path, ok := strings.Cut(os.Getenv(childEnv), ":")
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch part {
	case "hold":
		err = childHold(path)
	case "storm":
		err = childStorm(path)
	case "resident":
		err = childResident(path)
	default:
		err = fmt.Errorf("no part %q", part)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child starts a part. Its lines of output come from the scanner.
func child(t testing.TB, part, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+part+":"+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // the child ends when the test does
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// childHold keeps the store open until its input ends.
func childHold(path string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return s.Close()
}

// childStorm writes from many goroutines as fast as it can and prints a line for each
// write that was acknowledged, until it is killed.
func childStorm(path string) error {
	s, err := store.Open(path, stormOptions)
	if err != nil {
		return err
	}
	run := s.Stats().Items // a different number in each run
	var mu sync.Mutex
	ack := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	fail := make(chan error)
	check := func(err error) {
		if err != nil {
			fail <- err
		}
	}
	for w := range 12 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%d.%d.%d", run, w, n)
				check(s.PutItem(immutable(name), nil, addr4(n)))
				ack("immutable %s", name)
			}
		}()
	}
	for w := range 6 {
		it := mutable(w, "storm", 0, "")
		if old, err := s.Item(it.Target); err == nil {
			it.Seq = old.Seq
		}
		go func() {
			for seq := it.Seq + 1; ; seq++ {
				check(s.PutItem(stormMutable(w, seq), nil, addr4(w)))
				ack("mutable %d %d", w, seq)
			}
		}()
	}
	for w := range 6 {
		go func() {
			for n := 0; ; n++ {
				peer := netip.AddrPortFrom(addr6(run+n), uint16(w+1))
				check(s.Announce(key(w), peer, n%2 == 0, peer.Addr()))
				ack("peer %d %s %v", w, peer, n%2 == 0)
			}
		}()
	}
	return <-fail
}

var stormOptions = store.Options{MaxPeersPerInfohash: -1, MaxBytesPerSource: -1, MaxItems: -1, MaxBytes: -1}

func stormMutable(w int, seq int64) *store.Item {
	return mutable(w, "storm", seq, fmt.Sprintf("value %d of %d", seq, w))
}
