package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"kdht/router"
)

// What a predecessor on its way out may still hold is waited for so long.
const (
	webPatience   = 2 * time.Second
	storePatience = 5 * time.Second
)

// listen opens the UDP sockets. A family that the host does not have is left out, unless it is the only one.
func (p *process) listen(ctx context.Context) ([]router.Conn, error) {
	var conns []router.Conn
	var missing error
	for _, a := range p.cfg.Listen {
		cs, err := router.Listen(ctx, a)
		switch {
		case errors.Is(err, router.ErrFamilyUnavailable):
			missing = err
			p.notes = append(p.notes, fmt.Sprintf("%s is not served: %v", a, err))
			p.log.Warn("address not served", "listen", a, "err", err)
		case err != nil:
			err = fmt.Errorf("listen on %s: %w", a, err)
			if errors.Is(err, unix.EADDRINUSE) {
				err = fmt.Errorf("%w; another program has the port: choose another with --listen", err)
			}
			return nil, errors.Join(err, closeAll(conns))
		default:
			conns = append(conns, cs...)
		}
	}
	if len(conns) == 0 {
		return nil, missing
	}
	return conns, nil
}

func closeAll(conns []router.Conn) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// listenTCP opens the socket of the status page.
func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	deadline := time.Now().Add(webPatience)
	for {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if !errors.Is(err, unix.EADDRINUSE) {
			return l, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w; another program has the port: choose another with --http, or --http off", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(webPatience / 20):
		}
	}
}
