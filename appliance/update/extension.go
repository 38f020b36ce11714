package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance"
	"kdht/appliance/buildinfo"
	"kdht/appliance/health"
	"kdht/appliance/nexthop"
	"kdht/appliance/status"
	"kdht/appliance/update/bootdisk"
)

// Sockets of the appliance.
const (
	Socket        = "/run/kdht.sock"
	gokrazySocket = "/run/gokrazy-http.sock"
)

// Extension adds updates to the appliance.
func Extension(h *appliance.Host) error {
	m, err := New(Options{
		Root: "/", State: filepath.Join(h.Config.State, "update"), Platform: bootdisk.ThisPlatform(),
		CommandLine: bootdisk.CommandLine(), Gokrazy: gokrazySocket, Socket: Socket,
		Passwords: append([]string{filepath.Join(h.Config.State, passwordFile)}, PasswordFiles...), Config: h.Config, Log: h.Log, History: h.Store, Machine: Linux{}, Version: buildinfo.Read().String(), Report: h.Report, Stop: h.Stop,
		Memory: inMemory(h.Config.State),
		Ask:    func() error { return ask(h) }, Network: Network, Uptime: appliance.Uptime, Dial: h.Dial, LinkAddress: nexthop.LinkAddress,
	})
	if err != nil {
		return err
	}
	m.Join(h)
	return nil
}

// inMemory says whether a directory is in memory.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// Join adds a Manager to a node.
func (m *Manager) Join(h *appliance.Host) {
	handler := m.Handler()
	for _, p := range Patterns {
		h.Handle(p, handler)
	}
	h.AdmitBy(m.Owner)
	h.Section(m.Section)
	h.Problems(m.Problems)
	h.Check(m.check)
	h.Amend(func(r *status.Report) { r.BuildTimestamp, r.Update = m.BuildTimestamp(), m.summary() })
	h.Task(&task{m: m, handler: handler, ready: make(chan struct{})})
}

// task serves our Unix socket, follows a trial, and polls for releases.
type task struct {
	m       *Manager
	handler http.Handler
	once    sync.Once
	ready   chan struct{}
}

func (t *task) String() string         { return "updates" }
func (t *task) Ready() <-chan struct{} { return t.ready }

// Run implements [appliance.Task].
func (t *task) Run(ctx context.Context) error {
	defer t.once.Do(func() { close(t.ready) })
	if t.m.noDisk != nil { // nothing to do, and nobody to ask
		t.once.Do(func() { close(t.ready) })
		<-ctx.Done()
		return nil
	}
	l, err := listenUnix(ctx, t.m.o.Socket)
	if err != nil {
		return fmt.Errorf("updates: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(t.m.Health()) // the guard asks again
	})
	mux.Handle("/", t.handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	t.once.Do(func() { close(t.ready) })
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	followed := make(chan struct{})
	go func() { defer close(followed); t.m.Follow(ctx) }()
	err = <-served
	if ctx.Err() == nil {
		return err
	}
	<-followed
	return nil
}

// Follow does until ctx ends what nobody asks for: it follows a trial, compares with one that has failed, and polls for
// releases.
func (m *Manager) Follow(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		m.mu.Lock()
		tried := m.tried != nil
		m.mu.Unlock()
		if tried {
			if err := m.watch(ctx); err != nil {
				m.o.Log.Error("updates", "err", err)
			}
		}
	})
	wg.Go(func() { m.excuse(ctx) })
	wg.Go(func() { m.poll(ctx) })
	wg.Wait()
}

// listenUnix makes our Unix socket, which only root can open.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// ask asks the node whether it answers.
func ask(h *appliance.Host) error {
	var listen []netip.AddrPort
	for _, f := range h.Node.Stats().Families {
		listen = append(listen, f.Listen...)
	}
	return health.Ask(context.Background(), listen).Err()
}

// check is the part of updates in the health of the node.
func (m *Manager) check() health.Check {
	s := m.status()
	c := health.Check{Name: "updates", State: health.Good, Sentence: named(s.Version, s.Slot) + " is committed."}
	switch {
	case s.Trial:
		c.State, c.Sentence = health.Waiting, named(s.Version, s.Slot)+" is on trial: if it does not prove well, the box goes back to the one before by itself."
	case s.Problem != "":
		c.State, c.Sentence = health.Degraded, s.Problem
	case s.Unavailable != "":
		c.Sentence = "There are no updates on this machine: " + s.Unavailable + "."
	case s.CheckError != "":
		c.State, c.Sentence = health.Degraded, "The last look for releases has failed: "+s.CheckError+"."
	case s.Armed != "":
		c.Sentence = "The next restart tries " + s.Armed + "."
	}
	return c
}
