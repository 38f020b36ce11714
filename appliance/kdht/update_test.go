package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"kdht/appliance"
	"kdht/appliance/status"
	"kdht/appliance/update"
	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/manifest"
	"kdht/appliance/update/testdisk"
	"kdht/config"
	"kdht/store"
)

// machine is a box on a loop device that starts its trials: a new Manager on the other slot, committed or not.
type machine struct {
	t      *testing.T
	good   bool // trials prove well
	state  string
	store  *store.Store
	place  bootdisk.Place
	cfg    config.Config
	line   string // of the kernel that was loaded
	mu     sync.Mutex
	server http.Handler
}

func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	h := m.server
	m.mu.Unlock()
	h.ServeHTTP(w, r)
}

// start starts the box from a slot.
func (m *machine) start(root string) {
	place, err := bootdisk.Find(root)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.place = place
	u, err := update.New(update.Options{
		Root: root, State: filepath.Join(m.state, "update"), Platform: bootdisk.BIOS, Gokrazy: "/nowhere",
		Passwords: []string{filepath.Join(m.state, "pw")}, Config: m.cfg, Log: slog.New(slog.DiscardHandler), History: m.store, Machine: m,
		Report: func() status.Report { return status.Report{Version: "by hand"} }, Ask: func() error { return nil },
		Network: update.Network, Uptime: appliance.Uptime,
		Stop: func(last func()) { go last() },
	})
	if err != nil {
		m.t.Error(err)
		return
	}
	m.mu.Lock()
	m.server = u.Handler()
	m.mu.Unlock()
}

// LoadKernel and the others are the machine's last calls.
func (m *machine) LoadKernel(_ *os.File, line string) error { m.line = line; return nil }
func (*machine) CanOnce() bool                              { return false }
func (*machine) RestartOnce() error                         { return errors.New("not this one") }
func (m *machine) Restart() error                           { return errors.New("not to be called") }
func (m *machine) PowerOff() error                          { return errors.New("not to be called") }

// Kexec is the trial.
func (m *machine) Kexec() error {
	target, ok := bootdisk.FindMarker(m.line)
	if !ok {
		m.t.Errorf("command line %q", m.line)
	}
	slot := target.From
	if m.good {
		d, done, err := m.place.Open(bootdisk.BIOS)
		if err == nil {
			err = errors.Join(d.Commit(target), done())
		}
		if err != nil {
			m.t.Error(err)
		}
		slot = target.To
	}
	testdisk.Unmount(m.t, m.place.Parts[int(target.From)])
	root := m.t.TempDir()
	testdisk.Mount(m.t, m.place.Parts[int(slot)], root)
	m.start(root)
	select {} // a real one does not return either
}

// newMachine gives a box that takes what is signed with a key, the flags that lead to it, and a folder for releases, in which sign puts one
// of a version: from there the box gets releases by itself if pulls is true.
func newMachine(t *testing.T, key ed25519.PrivateKey, pulls bool) (m *machine, flags []string, release string, sign func(version string, serial uint64, key ed25519.PrivateKey)) {
	t.Helper()
	m, release = &machine{t: t, state: t.TempDir()}, t.TempDir()
	var err error
	if m.cfg, err = config.Parse("test", []byte(`{"state": "/nowhere"}`)); err != nil {
		t.Fatal(err)
	}
	m.cfg.Update.Key = hex.EncodeToString(key.Public().(ed25519.PublicKey))
	if pulls {
		m.cfg.Update.URL = release
	}
	if m.store, err = store.Open(filepath.Join(m.state, "db"), store.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.store.Close() })
	pw := filepath.Join(m.state, "pw")
	if err := os.WriteFile(pw, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, root := testdisk.Loop(t)
	m.start(root)
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)

	image := manifest.Image{Instance: runtime.GOARCH, Arch: runtime.GOARCH}
	for f, name := range map[*manifest.File]string{&image.Root: "v2.squashfs", &image.Boot: "v2.fat", &image.MBR: "v2.mbr"} {
		b := testdisk.File(t, name)
		sum := sha256.Sum256(b)
		*f = manifest.File{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
		if err := os.WriteFile(filepath.Join(release, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m, []string{"--host", strings.TrimPrefix(server.URL, "http://"), "--password-file", pw}, release, func(version string, serial uint64, key ed25519.PrivateKey) {
		t.Helper()
		doc, err := manifest.Sign(&manifest.Manifest{Product: manifest.Product, Version: version, Serial: serial, Images: []manifest.Image{image}}, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(release, manifest.Name), doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpdateCommands updates a box and goes back, with everything but the last calls.
func TestUpdateCommands(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	m, box, release, sign := newMachine(t, key, false)
	host := box[1]
	run := func(wantCode int, want string, args ...string) result {
		t.Helper()
		r := kdht(t, append([]string{"update"}, args...)...)
		if r.code != wantCode || !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%q: exit code %d, %s%s; want %d, %q", args, r.code, r.stdout, r.stderr, wantCode, want)
		}
		return r
	}
	with := func(args ...string) []string { return append(args, box...) }

	run(exitUsage, "this machine is no box", "status")
	run(exitUsage, "is no host", "status", "--host", "http://user@x/y")
	run(exitFailure, "wants its password", "status", "--host", host)
	run(exitUnreachable, "no answer from 127.0.0.1:1", "status", "--host", "127.0.0.1:1")
	run(exitOK, "running      v1, slot 2, committed", with("status")...)
	run(exitFailure, "has no update.url", with("check")...)
	run(exitFailure, "has no update.url", with("apply")...)
	run(exitFailure, "cannot read the release", with("apply", t.TempDir())...)
	sign("v2", 2, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	run(exitFailure, "not signed with the release key", with("apply", release)...)

	sign("v2", 2, key)
	run(exitFailure, "v2 (slot 3) was reverted: the machine restarted before a commit", with("apply", release)...)
	m.good = true
	run(exitOK, "v2 (slot 3), committed\n", with("apply", release)...)
	run(exitOK, "running      v2, slot 3, committed\nother slot   v1, slot 2\n", with("status")...)
	run(exitFailure, "not newer", with("apply", release)...)
	run(exitOK, "v1 (slot 2), committed\n", with("rollback")...)
	r := run(exitOK, "reverted", with("status")...)
	if n := strings.Count(r.stdout, "  committed  "); n != 2 {
		t.Errorf("%d are committed: %s", n, r.stdout)
	}
	var st update.Status
	if r = run(exitOK, "{", with("status", "--json")...); json.Unmarshal([]byte(r.stdout), &st) != nil || len(st.History) < 3 {
		t.Errorf("%s", r.stdout)
	}
	run(exitFailure, "does not accept the password", "status", "--host", host, "--password", "wrong")
}

// TestPullInReadme has a box look for a release, take it and go back by the commands in the README, and compares what they print.
func TestPullInReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile("(?ms)^```\n(\\$ bin/kdht update check .*?)^```$").FindSubmatch(text)
	if match == nil {
		t.Fatal("the README does not show how a release is pulled")
	}
	block := string(match[1])
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	m, flags, _, sign := newMachine(t, key, true)
	m.good = true
	sign("v2", 2, key)
	steps := regexp.MustCompile(`(?m)^\$ bin/kdht (.*)$`).Split(block, -1)
	commands := regexp.MustCompile(`(?m)^\$ bin/kdht (.*)$`).FindAllStringSubmatch(block, -1)
	seen := make(map[string]bool)
	for i, c := range commands {
		words, theirs, ok := strings.Cut(c[1], " --host ")
		if !ok || theirs != "localhost:8080 --password-file pw.txt" {
			t.Fatalf("%q is for another box", c[1])
		}
		seen[words] = true
		r := kdht(t, append(strings.Fields(words), flags...)...)
		if want := strings.TrimPrefix(steps[i+1], "\n"); r.code != exitOK || shape(r.stdout) != shape(want) {
			t.Errorf("kdht %s: exit code %d, %s\n%s\nwhere the README has\n%s", words, r.code, r.stderr, r.stdout, want)
		}
	}
	for _, words := range []string{"update check", "update apply", "update status", "update rollback"} {
		if !seen[words] {
			t.Errorf("the README has no %q", words)
		}
	}
}

// shape is what a command prints without what differs from box to box: times, versions and addresses.
func shape(text string) string {
	for pattern, kind := range map[string]string{
		`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`: "TIME", `\b[0-9a-f]{12}\b|\bv\d+\b`: "VERSION", `\b\d+\.\d+\.\d+\.\d+\b`: "ADDRESS",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, kind)
	}
	return text
}
