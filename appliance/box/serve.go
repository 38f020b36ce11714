package box

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"kdht/appliance"
	"kdht/appliance/linklocal"
	"kdht/config"
)

// startPatience is for how long a configuration that the node cannot start with is tried again: an address that it
// names may come with DHCP, a port may belong to a program on its way out.
const startPatience = 30 * time.Second

// ServeFunc is [appliance.Serve].
type ServeFunc func(context.Context, config.Config, *slog.Logger, ...appliance.Extension) error

// Serve serves like serve itself, with the problems of the box and its console as extensions, and with what it takes
// to serve at all: in memory if the state directory fails, with the defaults if the owner's configuration does not
// work. With [ErrAnew] it ends when a state in memory can be left.
func (b *Box) Serve(ctx context.Context, cfg, defaults config.Config, log *slog.Logger, serve ServeFunc, extensions ...appliance.Extension) error {
	until, stop, said := b.whenPrepared(ctx)
	defer stop()
	err := b.serve(until, cfg, defaults, log, serve, extensions...)
	if sentences := said(); sentences != nil && err == nil {
		b.handOver(sentences)
		return ErrAnew
	}
	return err
}

func (b *Box) serve(ctx context.Context, cfg, defaults config.Config, log *slog.Logger, serve ServeFunc, extensions ...appliance.Extension) error {
	if !b.permanent {
		cfg, defaults = b.inMemory(cfg), b.inMemory(defaults)
	}
	own := b.config != nil
	deadline := time.Now().Add(startPatience)
	for {
		started := make(chan struct{})
		err := serve(ctx, cfg, log, append(extensions, b.extension(started))...)
		select {
		case <-started:
			return err
		default:
		}
		switch {
		case ctx.Err() != nil || err == nil:
			return err
		case errors.Is(err, appliance.ErrState) && cfg.State != b.layout.Memory:
			b.useMemory(err)
			cfg, defaults = b.inMemory(cfg), b.inMemory(defaults)
		case !own:
			b.console.problem("cannot serve: " + err.Error())
			return err
		case time.Now().Before(deadline):
			log.Warn("cannot serve yet", "err", err)
			b.console.problem("cannot serve yet: " + err.Error())
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		default:
			b.problem("The configuration does not work on this box (%v): the defaults are used.", err)
			cfg, own = defaults, false
		}
	}
}

const (
	// DefaultWeb is where the status page of an appliance is: browsers need no port.
	DefaultWeb = ":80"
	// usualWeb is where that of other nodes is, so that whoever asks need not know which of them are appliances.
	usualWeb = ":8080"
)

// extension adds the box to a node. started is closed when the node runs.
func (b *Box) extension(started chan struct{}) appliance.Extension {
	return func(h *appliance.Host) error {
		h.Problems(b.Problems)
		if h.Config.HTTP == DefaultWeb {
			h.WebAlsoAt(usualWeb)
		}
		h.Task(newConsoleTask(b.console, h, started))
		if b.layout.LinkLocal {
			h.Task(linklocal.New(linklocal.Patience, h.Log))
		}
		return nil
	}
}
