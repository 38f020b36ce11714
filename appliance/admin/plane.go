package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"tailscale.com/client/local"
	"tailscale.com/envknob"
	"tailscale.com/tsnet"

	"kdht/appliance"
)

// stateDir is the name of the plane's directory in the state directory.
const stateDir = "tailnet"

// Bounds of the server in the tailnet.
const (
	maxConnections = 128
	maxHeader      = 16 << 10 // bytes
	stopPatience   = 2 * time.Second
)

// Bounds of the pause before the plane begins anew after a failure.
const (
	pauseMin = time.Second
	pauseMax = 5 * time.Minute
)

// plane is the admin plane, a task that never fails.
type plane struct {
	o    Options
	h    *appliance.Host
	log  *slog.Logger
	dir  string
	keys *keys

	gate    *gate
	now     state
	tailnet atomic.Pointer[tsnet.Server] // nil while there is none
	ready   chan struct{}
}

func newPlane(h *appliance.Host, o Options) *plane {
	p := &plane{
		o: o, h: h, log: h.Log, dir: filepath.Join(h.Config.State, stateDir),
		keys: &keys{c: h.Config.Tailnet, state: h.Config.State}, ready: make(chan struct{}),
	}
	if key := h.Config.Tailnet.AuthKey; key != "" {
		p.keys.known = append(p.keys.known, key)
	}
	close(p.ready) // nobody waits for it
	p.now.set("starting", "")
	return p
}

func (p *plane) String() string         { return "admin plane" }
func (p *plane) Ready() <-chan struct{} { return p.ready }

// Run keeps the node in the tailnet until ctx ends.
func (p *plane) Run(ctx context.Context) error {
	pause := pauseMin
	for {
		began, said := time.Now(), "it ended by itself"
		if err := p.session(ctx); err != nil {
			said = p.keys.redact(err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if time.Since(began) > pauseMax {
			pause = pauseMin
		}
		p.log.Error("the admin plane failed and begins anew", "pause", pause, "err", said)
		p.now.set("starting", said)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMax)
	}
}

// session is one life of the node in the tailnet.
func (p *plane) session(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	if aside, err := setAsideUnreadable(filepath.Join(p.dir, "tailscaled.state")); err != nil {
		return err
	} else if aside != "" {
		p.log.Error("the state of the tailnet was damaged and is set aside, somebody has to log in again", "kept", aside)
	}
	key := ""
	if !joined(p.dir) { // else a login comes only if the control server asks for one
		var err error
		if key, _, err = p.keys.find(); err != nil {
			p.log.Warn("no auth key for the tailnet", "err", err)
		}
	}
	envknob.SetNoLogsNoSupport() // nobody's log goes to anybody
	server := &tsnet.Server{
		Dir: p.dir, Hostname: p.hostname(), AuthKey: key, ControlURL: p.h.Config.Tailnet.ControlURL, AdvertiseTags: p.h.Config.Tailnet.Tags,
		UserLogf: p.logf, Logf: p.logf,
	}
	if err := startWith(server); err != nil {
		return err
	}
	defer server.Close()
	p.tailnet.Store(server)
	defer p.tailnet.Store(nil)
	client, err := server.LocalClient()
	if err != nil {
		return err
	}
	plain, err := server.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	web := p.server(client)
	serve := func(l net.Listener) {
		group.Go(func() error {
			if err := web.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("server: %w", err)
			}
			return nil
		})
	}
	serve(plain)
	group.Go(func() error {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		if web.Shutdown(timeout) != nil {
			return web.Close() // who has not got an answer by now gets none
		}
		return nil
	})
	l := &login{p: p, client: client, tried: key, secure: func() error {
		l, err := server.Listen("tcp", ":443")
		if err == nil {
			serve(tls.NewListener(l, &tls.Config{GetCertificate: client.GetCertificate, MinVersion: tls.VersionTLS12}))
		}
		return err
	}}
	group.Go(func() error { return l.watch(ctx) })
	return group.Wait()
}

// startWith starts a node with its AuthKey, or if that is empty with none: tsnet would look for one in the environment, and there
// may be one that was used.
func startWith(server *tsnet.Server) error {
	if server.AuthKey == "" {
		for _, name := range []string{"TS_AUTHKEY", "TS_AUTH_KEY"} {
			if value, ok := os.LookupEnv(name); ok {
				_ = os.Unsetenv(name) // neither fails with a name like this
				defer func() { _ = os.Setenv(name, value) }()
			}
		}
	}
	return server.Start()
}

// server is the HTTP server of a session.
func (p *plane) server(client *local.Client) *http.Server {
	return &http.Server{
		Handler:           p.gate.handler(client.WhoIs),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// hostname is the name that the box wants in the tailnet.
func (p *plane) hostname() string {
	if name := p.h.Config.Tailnet.Hostname; name != "" {
		return name
	}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		return name
	}
	return "kdht"
}

// logf is the log of the tailnet's parts: far too much but for whoever asks for it.
func (p *plane) logf(format string, args ...any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("tailnet", "says", p.keys.redact(fmt.Sprintf(format, args...)))
	}
}

// setAsideUnreadable moves a state file away that no start would ever get past.
func setAsideUnreadable(path string) (aside string, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if len(b) == 0 || json.Valid(b) {
		return "", nil
	}
	aside = path + ".damaged"
	return aside, os.Rename(path, aside)
}
