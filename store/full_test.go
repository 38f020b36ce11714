package store_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kdht/store"
)

// The disk is full for a while, and then again: puts fail, what was acknowledged stays, one line of the log says why, and
// afterwards all is well by itself, which one line says when it has lasted. A process of its own runs it, because the
// limit that plays the full disk also meets what package testing writes.
func TestFullDisk(t *testing.T) {
	const inChild = "KDHT_TEST_FULL_DISK"
	if os.Getenv(inChild) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), inChild+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var log bytes.Buffer
	clock := newClock()
	path := tempPath(t)
	s := open(t, path, store.Options{Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	before, during, after := immutable("before"), immutable("during"), immutable("after")
	source := netip.MustParseAddr("198.18.0.1")
	must(t, s.PutItem(before, nil, source))

	// Files of this process may not grow beyond a page, which is what a disk without room does to a write.
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	full := syscall.Rlimit{Cur: 4096, Max: limit.Max}
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full))
	lost := key(1)
	var released []store.Key
	s.OnRelease(func(k store.Key) { released = append(released, k) })
	var errs []error
	if err := s.Announce(lost, netip.AddrPortFrom(source, 1), false, source); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("announce: %v", err)
	}
	for range 3 {
		errs = append(errs, s.PutItem(during, nil, source))
	}
	failing := s.Stats()
	if !slices.Equal(released, []store.Key{lost}) { // it counted until it failed
		t.Errorf("released %x", released)
	}
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))

	for _, err := range errs {
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("put: %v", err)
		}
	}
	if !errors.Is(failing.Failure, syscall.EFBIG) || !failing.FailedSince.Equal(clock.Now()) {
		t.Errorf("failure %v since %v", failing.Failure, failing.FailedSince)
	}
	must(t, s.PutItem(after, nil, source))
	if st := s.Stats(); st.Failure != nil || !st.FailedSince.IsZero() {
		t.Errorf("failure %v since %v", st.Failure, st.FailedSince)
	}
	for range 3 { // it is nearly full
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full))
		if err := s.PutItem(during, nil, source); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("put: %v", err)
		}
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		must(t, s.PutItem(after, nil, source))
	}
	if text := log.String(); strings.Contains(text, "stores again") {
		t.Errorf("log:\n%s", text)
	}
	clock.Advance(time.Minute)
	must(t, s.PutItem(after, nil, source))
	s = reopen(t, s, path, store.Options{Now: clock.Now})
	for it, want := range map[*store.Item]error{before: nil, during: store.ErrNotFound, after: nil} {
		if _, err := s.Item(it.Target); !errors.Is(err, want) {
			t.Errorf("%s: %v", it.V, err)
		}
	}
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "stores again") != 1 {
		t.Errorf("log:\n%s", text)
	}
}
