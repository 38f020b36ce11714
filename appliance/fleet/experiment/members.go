package main

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"

	"kdht/appliance/fleet"
	"kdht/appliance/fleet/foreign"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// members are nodes of the network beside the boxes. They take part from the beginning, so that they hold items like all others.
type members struct {
	plain          *fleet.Node // a box without kernel half
	libtorrent     *foreign.Libtorrent
	libtorrentHost *fleet.Host
	node           *router.Node // in this process
	own            *fleet.Node  // its host, IPv4 only

	stops []func() error
}

// join has the members take part.
func (m *members) join(ctx context.Context, e *experiment) (err error) {
	if m.plain, err = e.AddXDP(ctx, "off"); err != nil {
		return err
	}
	bootstrap := e.boxes[0].Addr4
	if m.libtorrentHost, err = e.Network.AddHost("libtorrent"); err != nil {
		return err
	}
	m.libtorrent, err = foreign.StartLibtorrent(ctx, m.libtorrentHost, e.Dir, "libtorrent", e.o.Python, bootstrap, m.libtorrentHost.IPv4)
	if err != nil {
		return err
	}
	m.stops = append(m.stops, m.libtorrent.Close)
	if _, err := m.libtorrent.WaitNodes(ctx, min(16, len(e.boxes)/3)); err != nil {
		return err
	}

	m.own = new(fleet.Node)
	if m.own.Host, err = e.Network.AddHost("member"); err != nil {
		return err
	}
	db, err := store.Open(filepath.Join(e.Dir, "member.db"), store.Options{})
	if err != nil {
		return err
	}
	m.stops = append(m.stops, db.Close)
	var conns []router.Conn
	err = m.own.Host.NS.Do(func() (err error) {
		conns, err = router.Listen(ctx, netip.AddrPortFrom(m.own.Host.IPv4, fleet.Port))
		return err
	})
	if err != nil {
		return err
	}
	m.node, err = router.New(router.Config{
		Conns: conns, Store: db, Bootstrap: []string{bootstrap.String()}, External: []netip.Addr{m.own.Host.IPv4}, QueryRate: 100000,
		Tuning: router.Tuning{Bits: e.o.Bits, QueryRatePerNode: 1000},
	})
	if err != nil {
		return err
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- m.node.Run(runCtx) }()
	m.stops = append(m.stops, func() error { cancel(); return <-done })
	select {
	case <-m.node.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.ids[m.own] = [2]krpc.ID{m.node.ID(router.IPv4)}
	return nil
}

// leave ends those that are no processes of the fleet.
func (m *members) leave() error {
	var errs []error
	for i := len(m.stops) - 1; i >= 0; i-- {
		errs = append(errs, m.stops[i]())
	}
	return errors.Join(errs...)
}
