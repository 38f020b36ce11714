package appliance

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/link"
	"kdht/appliance/status"
	"kdht/config"
	"kdht/router"
)

const (
	// healthSoon is the time between two looks while the node is not ready.
	healthSoon = time.Second
	// linksRetry is when the interfaces are watched again after that has failed.
	linksRetry = 10 * time.Second
)

// healthWatch is the task that gathers what is known only to those who look: interfaces, and whether the node answers.
// It says in the log when the state of the whole changes.
type healthWatch struct {
	tree   func() health.Tree // of the present moment
	prober *health.Prober
	log    *slog.Logger
	ready  chan struct{}
	links  *link.Watcher // for the first run; nil afterwards

	mu         sync.Mutex
	interfaces []link.Link
	linksError string
	probe      health.Probe
}

// newHealthWatch makes the task, which looks at the network namespace of the calling thread.
func newHealthWatch(tree func() health.Tree, listen []netip.AddrPort, log *slog.Logger) *healthWatch {
	w := &healthWatch{tree: tree, prober: health.NewProber(listen), log: log, ready: make(chan struct{})}
	close(w.ready)
	all, err := link.Open()
	if err != nil {
		w.linksError = err.Error()
		return w
	}
	w.links = all
	return w
}

func (w *healthWatch) String() string         { return "health" }
func (w *healthWatch) Ready() <-chan struct{} { return w.ready }

// close gives back what a run has not used.
func (w *healthWatch) close() {
	if w.links != nil {
		_ = w.links.Close() // nobody has subscribed
	}
	_ = w.prober.Close() // nothing is lost
}

// Run implements [Task].
func (w *healthWatch) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			if err := w.watch(ctx); err != nil { // the tree says so, and all else goes on
				w.take(nil, err)
				wait(ctx, linksRetry)
			}
		}
	})
	group.Go(func() { w.look(ctx) })
	group.Wait()
	return nil
}

// watch keeps the interfaces until ctx ends or they cannot be watched.
func (w *healthWatch) watch(ctx context.Context) (err error) {
	links := w.links
	w.links = nil
	if links == nil {
		if links, err = link.Open(); err != nil {
			return err
		}
	}
	defer links.Close()
	return links.Run(ctx, func(all []link.Link) { w.take(all, nil) })
}

// wait waits for a time, or for the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (w *healthWatch) take(all []link.Link, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interfaces, w.linksError = all, ""
	if err != nil {
		w.linksError = err.Error()
	}
}

// look asks the node until ctx ends.
func (w *healthWatch) look(ctx context.Context) {
	last := health.Waiting
	for ctx.Err() == nil {
		p := w.prober.Ask(ctx)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.probe = p
		w.mu.Unlock()
		tree := w.tree()
		if tree.State != last {
			level := slog.LevelInfo // what is degraded has warned by itself
			if tree.State == health.Failed {
				level = slog.LevelWarn
			}
			w.log.Log(ctx, level, "health", "state", tree.State, "why", tree.Headline)
			last = tree.State
		}
		pause := health.ProbeEvery
		if p.Err() != nil || !tree.Ready {
			pause = healthSoon
		}
		wait(ctx, pause)
	}
}

// state is what was seen last.
func (w *healthWatch) state() (links []health.NetLink, linksError string, p health.Probe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	roles := link.Roles(w.interfaces)
	for i, l := range w.interfaces {
		if !l.Loopback {
			links = append(links, health.NetLink{Name: l.Name, Role: roles[i], Up: l.Up && l.Carrier, Addrs: l.Addrs})
		}
	}
	return links, w.linksError, w.probe
}

// hosted are the addresses of the loopback interface but the loopback ones.
func (w *healthWatch) hosted() (all []netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.interfaces {
		if l.Loopback && l.Up {
			all = append(all, slices.DeleteFunc(slices.Clone(l.Addrs), netip.Addr.IsLoopback)...)
		}
	}
	return all
}

// health computes the tree of a report that is otherwise complete.
func (p *process) health(r status.Report, n router.Stats) health.Tree {
	in := health.Input{
		Now: r.Time, Started: r.Started,
		Private:   p.cfg.Network == config.Private,
		OnlyLocal: true,
		Bootstrap: len(p.cfg.Bootstrap),
		Joined:    n.Ready,
		Store: health.StoreInput{
			Failure: r.Store.Failure, SetAside: r.Store.SetAside, Bytes: r.Store.Bytes, MaxBytes: r.Store.MaxBytes,
		},
		Kernel: health.KernelInput{
			Off: r.XDP.Mode == string(config.XDPOff), Active: r.XDP.Active, Reason: r.XDP.Reason, Missing: r.XDP.Held.Missing,
			JIT: r.XDP.Execution != "interpreter",
		},
	}
	in.Links, in.LinksError, in.Probe = p.watch.state()
	in.Hosted = p.watch.hosted()
	if r.Store.FailedSince != nil {
		in.Store.FailedSince = *r.Store.FailedSince
	}
	everywhere := false
	for _, f := range n.Families {
		for _, a := range f.Listen {
			everywhere = everywhere || a.Addr().IsUnspecified()
			if !a.Addr().IsLoopback() {
				in.Bound = append(in.Bound, a.Addr().Unmap().WithZone(""))
			}
		}
		in.OnlyLocal = in.OnlyLocal && !slices.ContainsFunc(f.Listen, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() })
		in.Families = append(in.Families, health.Family{
			Name: familyName(f.Family), IPv6: f.Family == router.IPv6, Contacts: f.Contacts, Good: f.Good, Answered: f.Answered, Silence: f.Silence,
		})
	}
	if everywhere {
		in.Bound = nil
	}
	for _, t := range r.Tasks {
		in.Tasks = append(in.Tasks, health.Task{Name: t.Name, Running: t.Running, Error: t.Error})
	}
	select {
	case <-p.half.Ready():
		in.Kernel.Settled = true
	default:
	}
	for _, c := range r.XDP.NICs {
		if c.Wanted != "none" && (c.Mode != "none" || c.Up) {
			in.Kernel.NICs = append(in.Kernel.NICs, health.NIC{Name: c.Name, Mode: c.Mode, Reason: c.Reason})
		}
	}
	for _, f := range p.host.checks {
		in.More = append(in.More, f())
	}
	return p.tracker.Date(health.Examine(in), r.Time)
}
