package discover

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"kdht/appliance/link"
	"kdht/router"
)

// Node is what discovery needs of the node; *router.Node is one.
type Node interface {
	// ID is announced.
	ID(router.Family) router.ID
	// SetHints takes the addresses of the neighbours.
	SetHints([]netip.AddrPort)
	// Knows tells, for the report, whether a neighbour has answered.
	Knows(netip.Addr) bool
}

// Config is what a [Task] is made from.
type Config struct {
	Private bool             // the network is a private one
	Name    string           // of the network: nodes of others are not neighbours
	Listen  []netip.AddrPort // addresses that the node's sockets are bound to
	Version func() string    // of the program; called when the task runs
	Node    Node
	Log     *slog.Logger
}

// network returns the kind of network as the TXT record has it.
func (c *Config) network() string {
	if c.Private {
		return "private"
	}
	return "public"
}

// Task announces the node and finds others, on all suitable interfaces of the network namespace that it is run in.
type Task struct {
	config  Config
	names   names
	log     *slog.Logger
	version string
	ready   chan struct{}
	once    sync.Once
	packets chan packet
	over    chan struct{} // closed when a run ends

	mu     sync.Mutex // guards what follows
	ifaces map[int]*iface
	links  []link.Link
	hints  []netip.AddrPort
	counts [events]uint64
	lines  int       // that may be logged now
	logged time.Time // when there was one more
}

// New makes a task.
func New(c Config) *Task {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return &Task{config: c, names: newNames(host), log: c.Log, ready: make(chan struct{})}
}

// String names the task.
func (t *Task) String() string { return "discovery" }

// Ready is closed once the task runs. Nothing need wait until it has found anybody.
func (t *Task) Ready() <-chan struct{} { return t.ready }

// Run announces and listens until ctx ends, then says goodbye and returns nil. An error is one of the interfaces'
// watcher; what goes wrong at one interface is in the report.
func (t *Task) Run(ctx context.Context) error {
	w, err := link.Open()
	if err != nil {
		return err
	}
	t.version = t.config.Version()
	t.packets, t.over = make(chan packet), make(chan struct{})
	t.mu.Lock()
	t.ifaces = make(map[int]*iface)
	t.mu.Unlock()
	links, watched := make(chan []link.Link), make(chan error, 1)
	watchCtx, cancel := context.WithCancel(ctx)
	go func() {
		watched <- w.Run(watchCtx, func(l []link.Link) {
			select {
			case links <- l:
			case <-watchCtx.Done():
			}
		})
	}()
	t.once.Do(func() { close(t.ready) })
	err, ended := t.loop(ctx, links, watched)
	cancel()
	if !ended {
		err = <-watched
	}
	t.end()
	return errors.Join(err, w.Close())
}

// loop does what is due until ctx or the watcher ends; ended says that it was the watcher.
func (t *Task) loop(ctx context.Context, links <-chan []link.Link, watched <-chan error) (err error, ended bool) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case err := <-watched:
			return err, true
		case l := <-links:
			t.locked(func(now time.Time) bool { return t.follow(l, now) })
		case p := <-t.packets:
			t.locked(func(now time.Time) bool { return t.receive(p, now) })
		case <-timer.C:
			t.locked(t.act)
		}
		timer.Reset(time.Until(t.next()))
	}
}

// locked does something to the state, and gives the neighbours' addresses to the node if it says that they changed.
func (t *Task) locked(f func(now time.Time) (changed bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !f(time.Now()) {
		return
	}
	var hints []netip.AddrPort
	for _, l := range t.links {
		if f := t.ifaces[l.Index]; f != nil {
			for _, n := range f.sorted() {
				hints = append(hints, n.addrs...)
			}
		}
	}
	if !slices.Equal(hints, t.hints) {
		t.hints = hints
		t.config.Node.SetHints(hints)
	}
}

// follow takes in the present state of the host's interfaces.
func (t *Task) follow(links []link.Link, now time.Time) (changed bool) {
	t.links = links
	for index, f := range t.ifaces {
		i := slices.IndexFunc(links, func(l link.Link) bool { return l.Index == index })
		if i < 0 || unsuitable(links[i]) != "" || len(t.config.listensAt(links[i])) == 0 {
			f.close()
			delete(t.ifaces, index)
			changed = true
		}
	}
	for _, l := range links {
		if unsuitable(l) != "" || len(t.config.listensAt(l)) == 0 {
			continue
		}
		f := t.ifaces[l.Index]
		if f == nil {
			f = &iface{task: t, neighbours: make(map[string]*neighbour)}
			t.ifaces[l.Index] = f
		}
		changed = f.follow(l, now) || changed
	}
	return changed
}

// act does what is due on all interfaces.
func (t *Task) act(now time.Time) (changed bool) {
	for _, f := range t.ifaces {
		f.act(now)
		changed = f.expire(now) || changed
	}
	return changed
}

// next returns when something is due.
func (t *Task) next() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := time.Now().Add(time.Hour)
	for _, f := range t.ifaces {
		if at := f.next(); !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// end says goodbye everywhere, and takes the hints back.
func (t *Task) end() {
	close(t.over)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.ifaces {
		f.goodbye()
		f.close()
	}
	t.ifaces, t.hints = nil, nil
	t.config.Node.SetHints(nil)
}
