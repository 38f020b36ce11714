package nexthop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is the room for notifications that were not read yet, in bytes.
const receiveBuffer = 1 << 20

// settle is how long changes of routes are waited for that follow the first: they come in groups.
const settle = 20 * time.Millisecond

// Watcher watches the routes and neighbours of one network namespace.
type Watcher struct {
	events  *netlink.Conn // notifications
	request *netlink.Conn // dumps
	known   map[key]Neighbour
}

// key tells neighbours apart.
type key struct {
	ifindex int
	addr    [16]byte
}

// Open subscribes to the notifications of the network namespace that the calling thread is in.
func Open() (*Watcher, error) {
	w := &Watcher{known: map[key]Neighbour{}}
	if err := w.open(); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	return w, nil
}

func (w *Watcher) open() (err error) {
	if w.events, err = netlink.Dial(unix.NETLINK_ROUTE, nil); err != nil {
		return err
	}
	if err := w.events.SetReadBuffer(receiveBuffer); err != nil {
		return err
	}
	for _, group := range []uint32{
		unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_LINK, // an interface that goes down takes IPv4 routes along without a word
	} {
		if err := w.events.JoinGroup(group); err != nil {
			return err
		}
	}
	w.request, err = netlink.Dial(unix.NETLINK_ROUTE, nil)
	return err
}

// Close ends the subscription.
func (w *Watcher) Close() error {
	var errs []error
	for _, c := range []*netlink.Conn{w.events, w.request} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Run calls f with all routes and neighbours at once, and then with what changes, until ctx ends (its error is then nil)
// or netlink fails. A Watcher runs once.
func (w *Watcher) Run(ctx context.Context, f func(Changes)) error {
	stop := context.AfterFunc(ctx, func() { // unblocks Receive
		past := time.Unix(1, 0)
		_ = w.events.SetReadDeadline(past)
		_ = w.request.SetReadDeadline(past)
	})
	defer stop()
	err := w.follow(ctx, f)
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	return nil
}

func (w *Watcher) follow(ctx context.Context, f func(Changes)) error {
	for stale := true; ; {
		if stale {
			all, err := w.dump()
			if err != nil {
				return err
			}
			f(all)
			stale = false
		}
		msgs, err := w.events.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // some were lost
			stale = true
			continue
		case err != nil:
			return err
		}
		var c Changes
		for _, m := range msgs {
			if m.Header.Type != unix.RTM_NEWNEIGH && m.Header.Type != unix.RTM_DELNEIGH {
				stale = true
				continue
			}
			w.heard(m, &c)
		}
		if len(c.Neighbours)+len(c.Gone) > 0 {
			f(c)
		}
		if !stale {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// heard takes in a notification about a neighbour.
func (w *Watcher) heard(m netlink.Message, c *Changes) {
	n, valid, ok, err := parseNeighbour(m.Data)
	if err != nil || !ok {
		return
	}
	k := key{n.Ifindex, n.Addr.As16()}
	old, known := w.known[k]
	switch valid = valid && m.Header.Type == unix.RTM_NEWNEIGH; {
	case valid && (!known || old != n):
		w.known[k] = n
		c.Neighbours = append(c.Neighbours, n)
	case !valid && known:
		delete(w.known, k)
		c.Gone = append(c.Gone, old)
	}
}

// dump asks the kernel for everything. What happens meanwhile is in the notifications that follow.
func (w *Watcher) dump() (Changes, error) {
	c := Changes{All: true}
	best := map[string]route{}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		rules, err := w.ask(unix.RTM_GETRULE, unix.SizeofRtMsg, family)
		if err != nil {
			return c, fmt.Errorf("list rules: %w", err)
		}
		for _, m := range rules {
			policy, err := isPolicy(m.Data)
			c.Policy = c.Policy || policy || err != nil
		}
		routes, err := w.ask(unix.RTM_GETROUTE, unix.SizeofRtMsg, family)
		if err != nil {
			return c, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range routes {
			r, ok, err := parseRoute(m.Data)
			if err != nil || !ok {
				continue
			}
			name := r.Prefix.String()
			if old, there := best[name]; !there || r.before(old) {
				best[name] = r
			}
		}
	}
	if !c.Policy {
		for _, r := range best {
			c.Routes = append(c.Routes, r.Route)
		}
	}
	clear(w.known)
	neighbours, err := w.ask(unix.RTM_GETNEIGH, unix.SizeofNdMsg, unix.AF_UNSPEC)
	if err != nil {
		return c, fmt.Errorf("list neighbours: %w", err)
	}
	for _, m := range neighbours {
		w.heard(m, &c)
	}
	c.Gone = nil
	return c, nil
}

// ask sends a dump request. A dump that changes disturb begins again, a few times.
func (w *Watcher) ask(kind netlink.HeaderType, size int, family byte) (msgs []netlink.Message, err error) {
	for range 5 {
		body := make([]byte, size)
		body[0] = family
		msgs, err = w.request.Execute(netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
			Data:   body,
		})
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without that family, or without rules
	}
	return msgs, err
}
