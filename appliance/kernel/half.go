package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kdht/appliance/link"
	"kdht/appliance/status"
	"kdht/bpf"
	"kdht/config"
	"kdht/router"
)

const (
	// renewals is how often the lease is renewed while one runs out.
	renewals = 3
	// resync is how often the interfaces are looked at without a notification: nobody is told when an XDP program is
	// detached behind our back.
	resync = time.Minute
	// handoverLimit is how long the tables of the previous process are answered from, at most.
	handoverLimit = 30 * time.Second
	// retry is the pause before an operation on the program is tried again.
	retry = time.Second
)

// Config is what a [Half] is made from. All fields but Interfaces and the last three are required.
type Config struct {
	XDP        config.XDP
	Interfaces []string         // names of those to attach to; empty: all suitable ones
	Listen     []netip.AddrPort // where the node's sockets are bound; ports are never 0
	State      string           // the state directory, which names the instance
	Node       Node
	Keys       func() iter.Seq[[20]byte] // the keys held here
	Log        *slog.Logger

	// Load, Watch and PinDir are bpf.Load, link.Open and PinDir, unless a test has others.
	Load   func(bpf.Config) (Program, error)
	Watch  func() (Links, error)
	PinDir func(state string) (string, error)
}

// Half is the kernel half of a node, as a task. It fails only for reasons that may pass; where there can be no kernel
// half it reports why and does nothing.
type Half struct {
	c     Config
	ready chan struct{}
	once  sync.Once // closes ready

	nics      map[int]*nic // by index; used by reconcile alone
	endpoints []netip.AddrPort
	told      bool // the program was told these endpoints
	pins      pinning
	missing   []string // interfaces asked for that are not there

	mu      sync.Mutex // guards what follows
	report  status.XDP
	program Program // nil while there is none
}

// New makes a kernel half that [Half.Run] brings to life.
func New(c Config) *Half {
	if c.Load == nil {
		c.Load = func(c bpf.Config) (Program, error) { return bpf.Load(c) }
	}
	if c.Watch == nil {
		c.Watch = func() (Links, error) { return link.Open() }
	}
	if c.PinDir == nil {
		c.PinDir = PinDir
	}
	h := &Half{c: c, ready: make(chan struct{})}
	h.report = status.XDP{
		Mode:   string(c.XDP.Mode),
		Lease:  c.XDP.Lease.Seconds(),
		Linger: c.XDP.Linger.Seconds(),
		Reason: "it is being loaded",

		Execution: Execution(),
	}
	return h
}

// String names the task.
func (h *Half) String() string { return "kernel half" }

// Ready is closed once the program is attached wherever it can be, or it is known that it cannot be at all.
func (h *Half) Ready() <-chan struct{} { return h.ready }

func (h *Half) setReady() { h.once.Do(func() { close(h.ready) }) }

// Report returns the present state, with fresh counters.
func (h *Half) Report() status.XDP {
	h.mu.Lock()
	r, p := h.report, h.program
	h.mu.Unlock()
	if p == nil {
		return r
	}
	counters, errCounters := p.Counters()
	events, errEvents := p.Events()
	if errCounters != nil || errEvents != nil {
		return r // it was closed this moment
	}
	for _, c := range counters {
		r.Counters = append(r.Counters, status.KernelCounter{Reason: c.Reason, Query: c.Query, Packets: c.Packets})
	}
	for _, e := range events {
		r.Events = append(r.Events, status.KernelEvent{Event: e.Event, Count: e.Count})
	}
	return r
}

// update changes the report.
func (h *Half) update(f func(*status.XDP)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.report)
}

// Run keeps the kernel half alive until ctx ends. Then it is detached, or left to the next process if the
// configuration says so.
func (h *Half) Run(ctx context.Context) error {
	if h.c.XDP.Mode == config.XDPOff {
		return h.without(ctx, "it is off by configuration")
	}
	program, pins, err := h.load()
	if err != nil {
		reason := err.Error()
		if errors.Is(err, bpf.ErrPermission) {
			reason += " (root may, and whoever has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"
		}
		h.c.Log.Warn("no kernel half, all is served from user space", "reason", reason)
		return h.without(ctx, reason)
	}
	if pins.dir != "" {
		owner, err := own(pins.dir)
		if err != nil { // the store's lock is the one that counts
			h.c.Log.Debug("the pins are not marked as ours", "dir", pins.dir, "err", err)
		} else {
			defer owner.Close()
		}
	}
	if jited, err := program.Jited(); err == nil {
		h.update(func(r *status.XDP) { r.Execution = executions[jited] })
	}
	err = h.run(ctx, program, pins)
	if errClose := h.leave(program, ctx.Err() == nil, pins.dir != ""); err == nil {
		err = errClose
	}
	return err
}

// pinning is where the program is pinned.
type pinning struct {
	dir  string // empty: nowhere
	used bool   // a predecessor left something there
}

// load loads the program, pinned if that can be.
func (h *Half) load() (Program, pinning, error) {
	dir, errPin := h.c.PinDir(h.c.State)
	if errPin == nil {
		pins := pinning{dir, hasPins(dir)}
		program, err := h.c.Load(bpf.Config{PinDir: dir})
		if err == nil {
			h.update(func(r *status.XDP) { r.Pinned, r.PinDir, r.PinReason, r.TakenOver = true, dir, "", pins.used })
			return program, pins, nil
		}
		errPin = err
	}
	program, err := h.c.Load(bpf.Config{})
	if err != nil {
		return nil, pinning{}, err
	}
	h.c.Log.Warn("the kernel half will not outlive the process", "reason", errPin)
	h.update(func(r *status.XDP) { r.Pinned, r.PinDir, r.PinReason, r.TakenOver = false, "", errPin.Error(), false })
	return program, pinning{}, nil
}

// without does nothing until ctx ends.
func (h *Half) without(ctx context.Context, reason string) error {
	h.update(func(r *status.XDP) { r.Active, r.Reason = false, reason })
	h.setReady()
	<-ctx.Done()
	return nil
}

// run sets the program up and serves it until ctx ends or something fails.
func (h *Half) run(ctx context.Context, program Program, pins pinning) error {
	h.nics, h.told, h.missing, h.pins = make(map[int]*nic), false, nil, pins
	if pins.used { // nothing may lapse while this process finds its feet
		if err := program.Renew(h.c.XDP.Lease); err != nil {
			return fmt.Errorf("renew lease: %w", err)
		}
	}
	if err := program.HoldAll(h.c.Keys()); err != nil {
		return fmt.Errorf("tell the held keys: %w", err)
	}
	tables := &handover{Kernel: program, open: !pins.used || unused(program)}
	if err := h.c.Node.SetKernel(tables); err != nil {
		return fmt.Errorf("publish the tables: %w", err)
	}
	if err := program.Renew(h.c.XDP.Lease); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	links, err := h.c.Watch()
	if err != nil {
		return err
	}
	defer links.Close()

	h.mu.Lock()
	h.program = program
	h.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return links.Run(ctx, func(ls []link.Link) {
			if h.reconcile(program, ls) {
				links.Refresh() // to read back what the kernel says of it
			}
			h.setReady()
		})
	})
	group.Go(func() error { return h.renew(ctx, program) })
	group.Go(func() error {
		h.sightings(ctx, program)
		return nil
	})
	group.Go(func() error { return h.endHandover(ctx, tables) })
	group.Go(func() error {
		every(ctx, resync, links.Refresh)
		return nil
	})
	return group.Wait()
}

// unused reports whether the program's maps are new: those of a predecessor of another version are not taken over,
// and neither are its tables.
func unused(program Program) bool {
	counters, err := program.Counters()
	if err != nil {
		return true
	}
	return !slices.ContainsFunc(counters, func(c bpf.Counter) bool { return c.Packets > 0 })
}

// leave parts from the program: after a failure it is left alone for the next run, at the end of the process it is
// left to the next process if it may linger, else it is taken away.
func (h *Half) leave(program Program, failed, pinned bool) error {
	h.mu.Lock()
	h.program = nil
	h.report.Active, h.report.Reason = false, "it is stopped"
	h.mu.Unlock()
	errs := []error{h.c.Node.SetKernel(nil)}
	keep := pinned && (failed || h.c.XDP.Linger > 0)
	if keep && !failed {
		errs = append(errs, program.Renew(h.c.XDP.Linger))
		h.c.Log.Info("the kernel half goes on answering", "for", h.c.XDP.Linger)
	}
	errs = append(errs, program.Close(!keep))
	if pinned && !keep {
		removePinRoot()
	}
	return errors.Join(errs...)
}

// renew renews the lease. One failure is no harm, several let the kernel half fall silent, as they should.
func (h *Half) renew(ctx context.Context, program Program) error {
	every(ctx, h.c.XDP.Lease/renewals, func() {
		if err := program.Renew(h.c.XDP.Lease); err != nil {
			h.c.Log.Error("lease of the kernel half not renewed", "err", err)
		}
	})
	return nil
}

// sightings passes on which nodes the kernel half has answered, and begins again after a failure: the rest of the
// kernel half can do without.
func (h *Half) sightings(ctx context.Context, program Program) {
	see := func(s bpf.Sighting) { h.c.Node.Sighting(router.Contact{ID: s.ID, Addr: s.Addr}) }
	for {
		err := program.Sightings(ctx, see)
		if ctx.Err() != nil {
			return
		}
		h.c.Log.Error("sightings of the kernel half are lost", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// endHandover waits until our tables are worth more than those of the previous process.
func (h *Half) endHandover(ctx context.Context, tables *handover) error {
	limit := time.NewTimer(handoverLimit)
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-h.c.Node.Ready():
	case <-limit.C:
	}
	if err := tables.end(); err != nil {
		h.c.Log.Error("tables not published to the kernel half", "err", err)
	}
	return nil
}

// every calls f periodically until ctx ends.
func every(ctx context.Context, period time.Duration, f func()) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// named reports whether an interface was asked for by name.
func (h *Half) named(name string) bool { return slices.Contains(h.c.Interfaces, name) }
