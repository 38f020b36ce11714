package gateway

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"kdht/store"
)

const (
	// keepEvery is how often the names that others have stored here are looked for.
	keepEvery = 10 * time.Minute
	// mourning is how long a name that was removed is remembered. A box that was off for longer may bring it back.
	mourning = 30 * 24 * time.Hour
)

// keeper makes the fleet's names that others stored here the box's own: then they do not expire, and it puts them again every
// hour (router.Keep), so that a name lives as long as any box that has it, whether or not the one it came from does. What is
// signed by the fleet needs no secret to be kept.
type keeper struct {
	g     *Gateway
	ready chan struct{}
}

func newKeeper(g *Gateway) *keeper {
	k := &keeper{g: g, ready: make(chan struct{})}
	close(k.ready)
	return k
}

func (k *keeper) String() string         { return "keeper of names" }
func (k *keeper) Ready() <-chan struct{} { return k.ready }

// Run implements [appliance.Task].
func (k *keeper) Run(ctx context.Context) error {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for {
		if err := k.g.keep(time.Now()); err != nil {
			k.g.log.Warn("names could not be kept", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// keep looks through the store once.
func (g *Gateway) keep(now time.Time) error {
	items, err := g.store.SignedBy(g.fleet.public, 2*maxNames)
	if err != nil {
		return err
	}
	own := 0
	for _, it := range items {
		if it.Own {
			own++
		}
	}
	for _, it := range items {
		buried := string(it.V) == string(tombstone) && now.Sub(time.UnixMicro(it.Seq)) > mourning
		switch {
		case it.Own && buried:
			err = g.store.Disown(it.Target)
			own--
		case !it.Own && !buried && own < maxNames:
			it.Own = true
			err = g.store.PutItem(it, nil, netip.Addr{})
			own++
		default:
			continue
		}
		if err != nil && !superseded(err) {
			return err
		}
	}
	return nil
}

// superseded says that an item has changed since it was read.
func superseded(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSeqOld) || errors.Is(err, store.ErrSeqSameOtherValue)
}
