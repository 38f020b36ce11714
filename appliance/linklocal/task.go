package linklocal

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"kdht/appliance/link"
)

const (
	// Patience is how long DHCP has for an address, from the moment that there is a carrier.
	Patience = 20 * time.Second
	// every is the time between two looks at the interfaces.
	every = time.Second
)

// Task gives addresses to interfaces that have none. It is an [appliance.Task].
type Task struct {
	log      *slog.Logger
	patience time.Duration
	ready    chan struct{}
}

// New makes the task; patience is usually [Patience].
func New(patience time.Duration, log *slog.Logger) *Task {
	t := &Task{log: log, patience: patience, ready: make(chan struct{})}
	close(t.ready) // nothing waits for it
	return t
}

func (t *Task) String() string         { return "link-local addresses" }
func (t *Task) Ready() <-chan struct{} { return t.ready }

// claimed is an interface without another address.
type claimed struct {
	since time.Time
	stop  context.CancelFunc // nil: not yet
	link  link.Link
}

// Run implements the task.
func (t *Task) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	lonely := make(map[int]*claimed) // by index
	for {
		links, err := link.List()
		if err != nil {
			return err
		}
		now, seen := time.Now(), make(map[int]bool)
		for _, l := range links {
			if !wants(l) {
				continue
			}
			seen[l.Index] = true
			c := lonely[l.Index]
			if c == nil || c.link.MAC != l.MAC {
				c.end()
				c = &claimed{since: now, link: l}
				lonely[l.Index] = c
			}
			if c.stop == nil && now.Sub(c.since) >= t.patience {
				own, stop := context.WithCancel(ctx)
				c.stop = stop
				wg.Go(func() {
					if err := t.claim(own, l); err != nil && own.Err() == nil {
						t.log.Warn("no link-local address", "interface", l.Name, "err", err)
					}
				})
			}
		}
		for index, c := range lonely {
			if !seen[index] {
				c.end()
				delete(lonely, index)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *claimed) end() {
	if c != nil && c.stop != nil {
		c.stop()
	}
}

// wants says whether an interface is one that should have an address and has none but its own link-local one.
func wants(l link.Link) bool {
	if l.Unsuitable() != "" || !l.Carrier {
		return false
	}
	for _, a := range l.Addrs {
		if a.Is4() && !a.IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}
