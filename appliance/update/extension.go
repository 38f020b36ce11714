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
	"kdht/appliance/status"
	"kdht/appliance/update/bootdisk"
	"kdht/router/krpc"
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
		Ask:    func() error { return ask(h) }, Network: Network, Uptime: Uptime,
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
	h.Section(m.Section)
	h.Problems(m.Problems)
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

// ask pings this node over the loopback interface, on an address of each family that it listens on.
func ask(h *appliance.Host) error {
	var errs []error
	for _, f := range h.Node.Stats().Families {
		for _, a := range f.Listen {
			if a.Addr().IsUnspecified() {
				loop := netip.AddrFrom4([4]byte{127, 0, 0, 1})
				if a.Addr().Is6() {
					loop = netip.IPv6Loopback()
				}
				a = netip.AddrPortFrom(loop, a.Port())
			}
			err := ping(a)
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", a, err))
		}
	}
	return errors.Join(append(errs, errors.New("no address answers"))...)
}

// ping sends one KRPC ping (BEP 5) and waits for its response.
func ping(a netip.AddrPort) error {
	c, err := net.DialTimeout("udp", a.String(), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("d1:ad2:id20:kdht-health-check-01e1:q4:ping1:t2:hc1:y1:qe")); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	var x krpc.Message
	if err := krpc.Decode(buf[:n], &x); err != nil || x.Type != krpc.TypeResponse {
		return fmt.Errorf("an odd answer: %q", buf[:n])
	}
	return nil
}
