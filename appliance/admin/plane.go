package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"tailscale.com/client/local"
	"tailscale.com/envknob"
	"tailscale.com/tsnet"

	"kdht/appliance"
	"kdht/appliance/journal"
	"kdht/config"
)

// stateDir is the name of the plane's directory in the state directory.
const stateDir = "tailnet"

// Bounds of the server in the tailnet.
const (
	maxConnections = 128
	maxPerNode     = 32       // connections; a program asks for several things at once
	maxHeader      = 16 << 10 // bytes
	stopPatience   = 2 * time.Second
	nodeTime       = time.Second // to find out whose a connection is
	// closeTime is more than the 5 s that tsnet gives what it shuts down itself: a node that only takes its time does not count as stuck.
	closeTime = 10 * time.Second
	// maxLeft is how many nodes that do not end are left to themselves, each with some 5 MB of memory.
	maxLeft = 3
)

// A task has appliance.StopTimeout to end, and the plane ends its server and then its node in it.
const _ = uint64(appliance.StopTimeout - stopPatience - closeTime)

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

	control string // URL of the control server of this session
	last    *ended // the node of the last session; nil once it has ended, or is left to itself
	left    atomic.Int32

	gate    *gate
	trial   *trial // nil: no configuration can be changed
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
	if home, had, err := readPin(p.dir); err == nil && had {
		p.now.domain = home.Domain
	}
	return p
}

func (p *plane) String() string         { return "admin plane" }
func (p *plane) Ready() <-chan struct{} { return p.ready }

// Run keeps the node in the tailnet until ctx ends.
func (p *plane) Run(ctx context.Context) error {
	pause := pauseMin
	for {
		began, said := time.Now(), "it ended by itself"
		err := p.session(ctx)
		if !p.await(ctx) {
			return nil
		}
		if errors.Is(err, errForeign) {
			if err = goHome(p.dir); err == nil {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(pauseMin): // whoever does this again and again is not to have the processor
				}
				continue
			}
		}
		if err != nil {
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

// ended is a node that was told to end.
type ended struct {
	server *tsnet.Server
	state  *sealable
	done   chan struct{} // closed when it has
}

// await makes sure that there can be another node; false if ctx has ended before. Nothing else waits for that, whatever becomes of the node of the
// last session: the DHT goes on. Two nodes with one key would drive each other out, and write the same state. So one that does not end is cut off
// from the network and from its state, and left to itself. Where that does not work either, or has happened too often, there is no other before it has
// ended.
func (p *plane) await(ctx context.Context) bool {
	if p.last == nil {
		return true
	}
	select {
	case <-p.last.done:
		p.last = nil
		return true
	case <-ctx.Done():
		return false
	default:
	}
	if int(p.left.Load()) < maxLeft && p.last.cut(ctx) {
		p.log.Error("the node in the tailnet does not end; it was cut off and is left to itself, and there is another")
		p.left.Add(1)
		go func(x *ended) {
			<-x.done
			p.left.Add(-1)
			p.log.Info("a node in the tailnet that was left to itself has ended at last")
		}(p.last)
		p.last = nil
		return ctx.Err() == nil
	}
	p.log.Error("the node in the tailnet does not end, and is left to itself; there is no admin plane until it has ended, or the program was started anew")
	why := "the node of before does not end, and there is no other until it has; if that lasts, start the program anew. The DHT is none the worse for it"
	if e := p.now.error(); e != "" {
		why = sentence(e) + " Then " + why
	}
	p.now.set("starting", why)
	select {
	case <-p.last.done:
		p.log.Info("the node in the tailnet has ended at last")
		p.last = nil
		return true
	case <-ctx.Done():
		return false
	}
}

// end ends a node, and waits for that some time.
func (p *plane) end(server *tsnet.Server, state *sealable) {
	x := &ended{server, state, make(chan struct{})}
	p.last = x
	if !p.o.loud {
		hush(server)
	}
	go func() {
		defer close(x.done)
		_ = server.Close() // there is nothing to be done about it
	}()
	select {
	case <-x.done:
		p.last = nil
	case <-time.After(closeTime):
	}
}

// cut takes the network away from a node, and its state: it has no connection to its control server then, none to a relay or to another node, and
// makes none. It does what is last in [tsnet.Server.Close], which has got stuck before that, and reports whether it could.
func (x *ended) cut(ctx context.Context) bool {
	x.state.seal()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if dialer, ok := x.server.Sys().Dialer.GetOK(); ok {
			_ = dialer.Close() // it cannot fail
		}
		if engine, ok := x.server.Sys().Engine.GetOK(); ok {
			engine.Close()
		}
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-time.After(closeTime):
	}
	return false
}

// hush takes its addresses away from a node that is to end, so that it writes no packet any more. When it ends it resets all its connections, in a
// queue of 512 packets that nobody reads by then (netstack.Impl.Close of tailscale.com v1.102.5): with more of them, as when a crowd comes and goes,
// it would wait for ever.
func hush(server *tsnet.Server) {
	if stack, ok := server.Sys().Netstack.GetOK(); ok {
		stack.UpdateNetstackIPs(nil)
	}
}

// session is one life of the node in the tailnet.
func (p *plane) session(ctx context.Context) (err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	if aside, err := mendState(p.dir); err != nil {
		return err
	} else if aside != "" {
		p.log.Error("the state of the tailnet was damaged and is set aside, the copy of it is taken; without one, somebody has to log in again", "kept", aside)
	}
	home, had, err := readPin(p.dir)
	if err != nil {
		return err
	}
	key := ""
	if !had { // else a login comes only if the control server asks for one
		if key, _, err = p.keys.find(); err != nil {
			p.log.Warn("no auth key for the tailnet", "err", err)
		}
	}
	p.control = p.h.Config.Tailnet.ControlURL
	stay := ""
	if had && p.control == "" && p.h.Config.Tailnet.Mode != config.TailnetOn {
		// It is on only because it has joined, and stays where that was: that the configuration was lost is not the wish to belong to
		// whoever is the first to log it in at Tailscale's.
		if unused, _, err := p.keys.find(); err == nil && unused == "" && home.ControlURL != "" {
			p.control, stay = home.ControlURL, home.ControlURL
			p.log.Warn("the configuration names no control server, and the box stays with the one where it has joined", "controlURL", p.control)
		}
	}
	p.now.stays(stay)
	envknob.SetNoLogsNoSupport() // nobody's log goes to anybody
	// With a network map that was kept, a node counts as running before the control server has said a word, and goes on so where that wants
	// a login: nobody would be told. Images have no such maps (ts_omit_cachenetmap).
	envknob.Setenv("TS_USE_CACHED_NETMAP", "false")
	state, err := openState(p.logf, p.dir)
	if err != nil {
		return err
	}
	server := &tsnet.Server{
		Dir: p.dir, Store: state, Hostname: p.hostname(), AuthKey: key, ControlURL: p.control, AdvertiseTags: p.h.Config.Tailnet.Tags,
		UserLogf: p.logf, Logf: p.logf,
	}
	if err := startWith(server); err != nil {
		return err
	}
	defer p.end(server, state)
	p.tailnet.Store(server)
	defer p.tailnet.Store(nil)
	if p.o.node != nil {
		p.o.node(server)
	}
	client, err := server.LocalClient()
	if err != nil {
		return err
	}
	plain, err := server.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	web := p.server(ctx, client)
	// Whoever may connect is not to keep those out who may do something.
	guests := appliance.NewGuests(maxConnections, maxPerNode, func(c net.Conn) string { return nodeOf(ctx, client, c) })
	guests.Track(web)
	serve := func(l net.Listener) {
		group.Go(func() error {
			if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("server: %w", err)
			}
			return nil
		})
	}
	serve(guests.Listener(plain))
	group.Go(func() error {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		if web.Shutdown(timeout) != nil {
			return web.Close() // who has not got an answer by now gets none
		}
		return nil
	})
	l := &login{p: p, client: client, tried: key, secure: func(domains []string) error {
		l, err := server.Listen("tcp", ":443")
		if err == nil {
			group.Go(func() error { p.certify(ctx, client, domains); return nil })
			serve(tls.NewListener(guests.Listener(l), &tls.Config{GetCertificate: client.GetCertificate, MinVersion: tls.VersionTLS12}))
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

// nodeOf names the node of the tailnet that a connection comes from; it has several addresses.
func nodeOf(ctx context.Context, client *local.Client, c net.Conn) string {
	from := c.RemoteAddr().String()
	ctx, cancel := context.WithTimeout(ctx, nodeTime)
	defer cancel()
	if x, err := client.WhoIs(ctx, from); err == nil && x.Node != nil {
		return string(x.Node.StableID)
	}
	if host, _, err := net.SplitHostPort(from); err == nil {
		return host
	}
	return from
}

// Bounds of the pause between attempts to get a certificate, and of an attempt.
const (
	certPauseMin = time.Minute
	certPauseMax = time.Hour
	certTime     = 3 * time.Minute
)

// certify gets the certificates of the names that the tailnet has for the box, and says when it has them. Nobody who comes by TLS is to
// wait for the first one; later ones are got by whoever comes when the old one is old.
func (p *plane) certify(ctx context.Context, client *local.Client, domains []string) {
	p.now.certified(false)
	for pause := certPauseMin; ; pause = min(2*pause, certPauseMax) {
		var errs []error
		for _, d := range domains {
			timeout, cancel := context.WithTimeout(ctx, certTime)
			_, _, err := client.CertPair(timeout, d)
			errs = append(errs, err)
			cancel()
		}
		err := errors.Join(errs...)
		if err == nil {
			p.now.certified(true)
			p.log.Info("the admin plane has a certificate", "names", domains)
			return
		}
		if ctx.Err() != nil {
			return
		}
		p.log.Warn("there is no certificate for the admin plane yet, so it is reached without TLS", "names", domains, "again", pause, "err", p.keys.redact(err.Error()))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

type sessionKey struct{}

// sessionOf gives the context of the session that a request came in.
func sessionOf(ctx context.Context) context.Context {
	if s, ok := ctx.Value(sessionKey{}).(context.Context); ok {
		return s
	}
	return context.Background()
}

// server is the HTTP server of a session, which ends with ctx.
func (p *plane) server(ctx context.Context, client *local.Client) *http.Server {
	return &http.Server{
		// What is under way has its time when the session ends.
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), sessionKey{}, ctx)
		},
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

// logf is the log of the tailnet's parts: far too much but for whoever asks for it. They say the URL of a login in several ways, and
// whoever has it could log the box in: what has a URL is for the log's reader only.
func (p *plane) logf(format string, args ...any) {
	if !p.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	said := p.keys.redact(fmt.Sprintf(format, args...))
	if strings.Contains(said, "://") {
		p.log.Debug("tailnet", "says", journal.Private(said))
		return
	}
	p.log.Debug("tailnet", "says", said)
}
