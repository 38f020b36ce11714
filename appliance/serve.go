package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/journal"
	"kdht/appliance/kernel"
	"kdht/appliance/tailnet"
	"kdht/config"
	"kdht/router"
	"kdht/store"
)

// StoreFile is the name of the database in the state directory.
const StoreFile = "kdht.db"

// ErrState says that nothing can be kept in the state directory.
var ErrState = errors.New("state directory")

// Serve runs one node, with what extensions add to it, until ctx ends, then stops it cleanly and returns nil. An error
// says what kept it from starting, made it stop, or went wrong when it stopped.
func Serve(ctx context.Context, cfg config.Config, log *slog.Logger, extensions ...Extension) (err error) {
	tuneMemory()
	log, kept := journal.Wrap(log)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p := &process{cfg: cfg, log: log, journal: kept, started: time.Now(), release: kernel.Release()}
	p.host.stop = stop
	defer func() { err = p.host.finish(err) }() // after the store is closed

	var web net.Listener
	if cfg.HTTP != "" {
		if web, err = listenTCP(ctx, cfg.HTTP); err != nil {
			return fmt.Errorf("status page: %w", err)
		}
		defer web.Close() // again, where the server has done it
	}
	if p.store, err = openStore(cfg, log); err != nil {
		return err
	}
	defer func() {
		if errClose := p.store.Close(); errClose != nil {
			err = errors.Join(err, fmt.Errorf("close the store: %w", errClose))
		}
	}()
	conns, err := p.listen(ctx)
	if err != nil {
		return err
	}
	kernelLimits, nodeLimits := limits(cfg)
	p.node, err = router.New(router.Config{
		Conns:     conns,
		Store:     p.store,
		Bootstrap: cfg.Bootstrap,
		Private:   cfg.Network == config.Private,
		External:  cfg.External,
		NewID:     seededID(cfg),
		QueryRate: cfg.Limits.QueriesPerSecond,
		Recursion: router.Recursion{
			Allow:        cfg.Recursion.Allow,
			Also:         tailnet.Of(cfg.Recursion.Allow).Contains,
			QueryRate:    nodeLimits.Queries,
			MaxLookups:   cfg.Recursion.MaxLookups,
			MaxPerClient: cfg.Recursion.MaxPerClient,
			CacheBytes:   cfg.Recursion.CacheBytes,
			CacheTTL:     cfg.Recursion.CacheTTL,
		},
		Limits: nodeLimits,
		Tuning: router.Tuning{
			Bits:             cfg.Table.Bits,
			Alpha:            cfg.Lookup.Alpha,
			LookupTime:       cfg.Lookup.Timeout,
			TokenLife:        cfg.Token.Rotation,
			SaveEvery:        cfg.Table.Save,
			RepublishEvery:   cfg.Lookup.Republish,
			QueryRatePerNode: cfg.QueriesPerNode(),
			HotAfter:         cfg.XDP.HotAfter,
		},
		Logger: log,
	})
	if err != nil {
		return errors.Join(err, closeAll(conns))
	}
	var bound []netip.AddrPort
	for _, c := range conns {
		bound = append(bound, c.LocalAddr())
	}
	p.half = kernel.New(kernel.Config{
		XDP:        cfg.XDP,
		Interfaces: cfg.Interfaces,
		Listen:     bound,
		State:      cfg.State,
		Node:       p.node,
		Keys:       p.store.Keys,
		MaxKeys:    p.store.MaxKeys(),
		Clients:    cfg.Recursion.Allow,
		Private:    cfg.Network == config.Private,
		Limits:     kernelLimits,
		Log:        log,
	})
	p.past = p.newHistory()
	p.watch = newHealthWatch(func() health.Tree { return p.report().Health }, bound, log)
	defer p.watch.close()
	flood := newFloodWatch(p.refused, log)
	p.host.Problems(flood.problems)
	if err := p.extend(extensions); err != nil {
		return errors.Join(err, closeAll(conns))
	}
	// The kernel half comes before the node and goes after it, so that while the node stores anything, whatever is
	// attached, also by a process before or after this one, knows what is held here.
	tasks := []Task{Restarting(halfTask{p.half}, log), &nodeTask{p.node, make(chan struct{})}}
	if p.host.web, err = p.handler(); err != nil {
		return errors.Join(err, closeAll(conns))
	}
	page := onlyOurNames(cfg.Gateway.Hosts, p.host.underAnyName, p.host.web)
	if web != nil {
		tasks = append(tasks, Restarting(newWebTask(web, page, log), log))
	}
	for _, addr := range p.host.webAlso {
		tasks = append(tasks, Restarting(newOtherWebTask(addr, page, log), log))
	}
	tasks = append(tasks, Restarting(p.watch, log), Restarting(flood, log), Restarting(p.past, log))
	tasks = append(tasks, p.host.tasks...)
	p.tasks.Store(&tasks)
	err = Supervise(ctx, log, append(tasks, &greeting{p: p, web: web, ready: make(chan struct{})})...)
	log.Info("stopped", "after", time.Since(p.started).Round(time.Second))
	return err
}

// openStore opens the database.
func openStore(cfg config.Config, log *slog.Logger) (*store.Store, error) {
	s, err := store.Open(filepath.Join(cfg.State, StoreFile), store.Options{
		MaxBytes:            cfg.Store.MaxBytes,
		MaxItems:            cfg.Store.MaxItems,
		MaxInfohashes:       cfg.Store.MaxInfohashes,
		MaxPeersPerInfohash: cfg.Store.MaxPeersPerInfohash,
		MaxBytesPerSource:   cfg.Store.MaxBytesPerSource,
		ItemTTL:             cfg.Store.ItemTTL,
		PeerTTL:             cfg.Store.PeerTTL,
		LockTimeout:         storePatience,
		Logger:              log,
	})
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("state directory %s: %w; is another kdht running with it?", cfg.State, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrState, cfg.State, err)
	}
	return s, nil
}

// halfTask is the kernel half as a task. The node need not wait until it is attached.
type halfTask struct{ *kernel.Half }

func (t halfTask) Ready() <-chan struct{} { return t.Settled() }

// nodeTask is the node as a task. What follows it need not wait until it has joined the network.
type nodeTask struct {
	*router.Node
	ready chan struct{}
}

func (t *nodeTask) String() string         { return "node" }
func (t *nodeTask) Ready() <-chan struct{} { return t.ready }

func (t *nodeTask) Run(ctx context.Context) error {
	close(t.ready)
	return t.Node.Run(ctx)
}

// greeting is the last task to start: it says in the log that the node serves, once the kernel half is attached or
// cannot be.
type greeting struct {
	p     *process
	web   net.Listener
	ready chan struct{}
}

func (g *greeting) String() string         { return "greeting" }
func (g *greeting) Ready() <-chan struct{} { return g.ready }

func (g *greeting) Run(ctx context.Context) error {
	select {
	case <-g.p.half.Ready():
	case <-ctx.Done():
		g.p.log.Info("stopping")
		return nil
	}
	r := g.p.report()
	var attrs []any
	for _, f := range r.Families {
		attrs = append(attrs, slog.Group(f.Family, "listen", f.Listen, "id", f.ID))
	}
	xdp := []any{"active", r.XDP.Active, "mode", r.XDP.Mode}
	if r.XDP.Reason != "" {
		xdp = append(xdp, "reason", r.XDP.Reason)
	}
	for _, n := range r.XDP.NICs {
		if n.Mode != "none" {
			xdp = append(xdp, n.Name, n.Mode)
		}
	}
	attrs = append(attrs, slog.Group("xdp", xdp...))
	if g.web != nil {
		attrs = append(attrs, "http", g.web.Addr().String())
	}
	g.p.log.Info("serving", append(attrs, "network", r.Network, "state", g.p.cfg.State)...)
	close(g.ready)
	returnMemory()
	<-ctx.Done()
	g.p.log.Info("stopping")
	return nil
}
