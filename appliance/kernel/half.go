package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"kdht/appliance/link"
	"kdht/appliance/nexthop"
	"kdht/appliance/status"
	"kdht/bpf"
	"kdht/bpf/limit"
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
	MaxKeys    int64                     // how many can be held here; negative: no bound
	Clients    []netip.Prefix            // for which recursion is done; none: for nobody
	Private    bool                      // private addresses are nodes like any other
	Limits     limit.Config              // of what others may ask
	Log        *slog.Logger

	// Load, Watch, NextHops and PinDir are bpf.Load, link.Open, nexthop.Open and PinDir, unless a test has others.
	Load     func(bpf.Config) (Program, error)
	Watch    func() (Links, error)
	NextHops func() (NextHops, error)
	PinDir   func(state string) (string, error)
}

// Half is the kernel half of a node, as a task. It fails only for reasons that may pass; where there can be no kernel
// half it reports why and does nothing.
type Half struct {
	c           Config
	settled     chan struct{}
	settledOnce sync.Once
	ready       chan struct{}
	readyOnce   sync.Once

	current *loaded // from when the program is set up until it is parted from; outlives a run that failed

	nics      map[int]*nic // by index; used by reconcile alone
	endpoints []netip.AddrPort
	groups    []netip.AddrPort // where we hear what is for many
	told      bool             // the program was told these endpoints
	pins      pinning
	missing   []string // interfaces asked for that are not there

	mu      sync.Mutex // guards what follows
	report  status.XDP
	program Program     // nil while there is none
	rec     *recursions // likewise, and without clients
}

// New makes a kernel half that [Half.Run] brings to life.
func New(c Config) *Half {
	if c.Load == nil {
		c.Load = func(c bpf.Config) (Program, error) { return bpf.Load(c) }
	}
	if c.Watch == nil {
		c.Watch = func() (Links, error) { return link.Open() }
	}
	if c.NextHops == nil {
		c.NextHops = func() (NextHops, error) { return nexthop.Open() }
	}
	if c.PinDir == nil {
		c.PinDir = PinDir
	}
	h := &Half{c: c, settled: make(chan struct{}), ready: make(chan struct{})}
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

// Settled is closed once no kernel half is attached that does not learn which keys are held here. Before, a predecessor's
// may answer a query for what has just been stored as if it were not held, so nothing must be stored. Without a
// predecessor that is at once.
func (h *Half) Settled() <-chan struct{} { return h.settled }

func (h *Half) setSettled() { h.settledOnce.Do(func() { close(h.settled) }) }

// Ready is closed once the program is attached wherever it can be, or it is known that it cannot be at all, or its
// first run has failed.
func (h *Half) Ready() <-chan struct{} { return h.ready }

func (h *Half) setReady() {
	h.setSettled()
	h.readyOnce.Do(func() { close(h.ready) })
}

// Report returns the present state, with fresh counters.
func (h *Half) Report() status.XDP {
	h.mu.Lock()
	r, p, rec := h.report, h.program, h.rec
	h.mu.Unlock()
	if rec != nil {
		s := rec.report()
		r.Recursion = &s
	}
	if p == nil {
		return r
	}
	counters, errCounters := p.Counters()
	events, errEvents := p.Events()
	r.Held, r.Hot = heldReport(p.Held()), hotReport(p.Hot())
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
// configuration says so. After a failure the program goes on answering, and learning what is held here, until the next
// run or [Half.Close].
func (h *Half) Run(ctx context.Context) error {
	defer h.setReady()
	if h.c.XDP.Mode == config.XDPOff {
		removeLeft(h.c.State)
		return h.without(ctx, "it is off by configuration")
	}
	if h.current == nil {
		program, pins, err := h.load()
		if err != nil {
			reason := err.Error()
			if errors.Is(err, bpf.ErrPermission) {
				reason += " (root may, and whoever has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"
			}
			h.c.Log.Warn("no kernel half, all is served from user space", "reason", reason)
			return h.without(ctx, reason)
		}
		if err := h.setUp(program, pins); err != nil {
			return err
		}
	}
	err := h.run(ctx, h.current)
	if ctx.Err() != nil {
		return errors.Join(err, h.Close())
	}
	h.failed(err)
	return err
}

// pinning is where the program is pinned.
type pinning struct {
	dir   string    // empty: nowhere
	used  bool      // a predecessor left something there
	owner io.Closer // nil: the directory could not be marked as ours
}

// release says that the directory is not ours any more.
func (p pinning) release() {
	if p.owner != nil {
		_ = p.owner.Close() // only a lock
	}
}

// loaded is a program that learns what is held here.
type loaded struct {
	Program
	pins   pinning
	tables *handover
	shared bool // what a predecessor has attached reads the same maps
}

// load loads the program, pinned if that can be. Where a predecessor is, whatever it has left attached then reads the
// program's maps or is gone.
func (h *Half) load() (Program, pinning, error) {
	dir, errPin := h.c.PinDir(h.c.State)
	if errPin == nil {
		var program Program
		var pins pinning
		if program, pins, errPin = h.loadPinned(dir); errPin == nil {
			return program, pins, nil
		}
	}
	h.setSettled()
	program, err := h.c.Load(bpf.Config{MaxHeld: room(h.c.MaxKeys), HotBytes: hotBytes(h.c.XDP.HotBytes)})
	if err != nil {
		return nil, pinning{}, err
	}
	h.c.Log.Warn("the kernel half will not outlive the process", "reason", errPin)
	h.update(func(r *status.XDP) { r.Pinned, r.PinDir, r.PinReason, r.TakenOver = false, "", errPin.Error(), false })
	return program, pinning{}, nil
}

// loadPinned loads the program with its pins in a directory. If that fails nothing is left there, unless it is another process's.
func (h *Half) loadPinned(dir string) (Program, pinning, error) {
	if gone := sweep(dir); len(gone) > 0 {
		h.c.Log.Info("removed what dead instances of this program left at interfaces that are gone", "pins", len(gone))
	}
	owner, err := own(dir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, pinning{}, err
	} else if err != nil { // the store's lock is the one that counts
		h.c.Log.Debug("the pins are not marked as ours", "dir", dir, "err", err)
	}
	pins := pinning{dir, hasPins(dir), owner}
	if !pins.used {
		h.setSettled()
	}
	program, err := h.c.Load(bpf.Config{PinDir: dir, MaxHeld: room(h.c.MaxKeys), HotBytes: hotBytes(h.c.XDP.HotBytes)})
	if err != nil {
		pins.release()
		if pins.used { // nobody would tell it what is held here
			_ = os.RemoveAll(dir) // who may not has no pins either
		}
		return nil, pinning{}, err
	}
	h.update(func(r *status.XDP) { r.Pinned, r.PinDir, r.PinReason, r.TakenOver = true, dir, "", pins.used })
	return program, pins, nil
}

// without does nothing until ctx ends.
func (h *Half) without(ctx context.Context, reason string) error {
	h.update(func(r *status.XDP) { r.Active, r.Reason = false, reason })
	h.setReady()
	<-ctx.Done()
	return nil
}

// setUp makes the program learn, from now on, what is held here, and makes it the current one. One that cannot learn it
// is taken away, along with what a predecessor has attached.
func (h *Half) setUp(program Program, pins pinning) error {
	l := &loaded{Program: program, pins: pins, shared: !pins.used || !unused(program)}
	l.tables = &handover{Kernel: program, open: !pins.used || !l.shared}
	if err := h.tell(l); err != nil {
		defer pins.release()
		return errors.Join(err, h.c.Node.SetKernel(nil), program.Close(true))
	}
	if jited, err := program.Jited(); err == nil {
		h.update(func(r *status.XDP) { r.Execution = executions[jited] })
	}
	h.current = l
	if l.shared {
		h.setSettled()
	}
	return nil
}

// tell tells the program what is held here, and has the node keep it informed.
func (h *Half) tell(l *loaded) error {
	if l.pins.used { // nothing may lapse while this process finds its feet
		if err := l.Renew(h.c.XDP.Lease); err != nil {
			return fmt.Errorf("renew lease: %w", err)
		}
	}
	if err := l.SetLimits(h.c.Limits); err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	if err := l.HoldAll(h.c.Keys()); err != nil {
		return fmt.Errorf("tell the held keys: %w", err)
	}
	if err := h.c.Node.SetKernel(l.tables); err != nil {
		return fmt.Errorf("publish the tables: %w", err)
	}
	return nil
}

// run serves the program until ctx ends or something fails.
func (h *Half) run(ctx context.Context, program *loaded) error {
	h.nics, h.told, h.missing, h.pins = make(map[int]*nic), false, nil, program.pins
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
	if err := program.SetClients(h.c.Clients); err != nil {
		return fmt.Errorf("tell who gets recursion: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	out := &egress{h: h, program: program}
	if len(h.c.Clients) > 0 {
		rec := &recursions{h: h, program: program}
		h.mu.Lock()
		h.rec = rec
		h.mu.Unlock()
		group.Go(func() error { return out.run(ctx) })
		group.Go(func() error {
			rec.run(ctx)
			return nil
		})
	}
	group.Go(func() error {
		return links.Run(ctx, func(ls []link.Link) {
			if h.reconcile(program, ls) {
				links.Refresh() // to read back what the kernel says of it
			}
			out.interfaces(ls, h.native())
			program.shared = true // what could not be replaced was removed
			h.setReady()
		})
	})
	group.Go(func() error { return h.renew(ctx, program) })
	group.Go(func() error {
		h.sightings(ctx, program)
		return nil
	})
	group.Go(func() error { return h.endHandover(ctx, program.tables) })
	group.Go(func() error {
		h.holdMissing(ctx, program)
		return nil
	})
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

// failed is the end of a run that is to be repeated.
func (h *Half) failed(err error) {
	h.update(func(r *status.XDP) { r.Active, r.Reason = false, fmt.Sprintf("it has failed: %v", err) })
	if h.current.shared {
		return
	}
	// A predecessor of another version is still attached.
	h.c.Log.Warn("the kernel half of the previous version is taken away")
	if err := h.part(true); err != nil {
		h.c.Log.Error("kernel half not taken away", "err", err)
	}
}

// Close parts from the program, if a run has not done so: it is left to the next process if it may linger, else it is
// taken away. A program that lingers learns no more what is held here, so the node must have ended before.
func (h *Half) Close() error {
	if h.current == nil {
		return nil
	}
	h.update(func(r *status.XDP) { r.Active, r.Reason = false, "it is stopped" })
	return h.part(h.current.pins.dir == "" || h.c.XDP.Linger <= 0)
}

// part parts from the program and takes it away, or leaves it to linger.
func (h *Half) part(away bool) error {
	l := h.current
	h.current = nil
	h.mu.Lock()
	h.program = nil
	h.mu.Unlock()
	var errs []error
	if away {
		errs = append(errs, l.Close(true), h.c.Node.SetKernel(nil))
		if l.pins.dir != "" {
			removePinRoot()
		}
	} else {
		errs = append(errs, h.c.Node.SetKernel(nil), l.Renew(h.c.XDP.Linger), l.Close(false))
		h.c.Log.Info("the kernel half goes on answering", "for", h.c.XDP.Linger)
	}
	l.pins.release()
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
	see := func(s bpf.Sighting) { h.c.Node.Sighting(router.Contact{ID: s.ID, Addr: s.Addr}, s.Proven) }
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

// native lists the interfaces that the program is attached to in native mode.
func (h *Half) native() map[int]bool {
	all := map[int]bool{}
	for index, n := range h.nics {
		if n.attached && n.mode == bpf.ModeNative.String() {
			all[index] = true
		}
	}
	return all
}

// named reports whether an interface was asked for by name.
func (h *Half) named(name string) bool { return slices.Contains(h.c.Interfaces, name) }
