package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is the room for notifications that were not read yet, in bytes.
const receiveBuffer = 256 << 10

// Watcher watches the interfaces of one network namespace.
type Watcher struct {
	events  *netlink.Conn // notifications
	request *netlink.Conn // dumps
	ethtool int           // socket for ioctls

	dirty chan struct{} // capacity 1: something changed since the last dump

	mu         sync.Mutex
	generation map[int]uint64 // by index; grows when an interface goes
	base       uint64         // grows when notifications were lost
}

// Open subscribes to the notifications of the network namespace that the calling thread is in.
func Open() (*Watcher, error) {
	w := &Watcher{ethtool: -1, dirty: make(chan struct{}, 1), generation: make(map[int]uint64)}
	w.dirty <- struct{}{} // the first dump
	if err := w.open(); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return w, nil
}

func (w *Watcher) open() (err error) {
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if w.events, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups}); err != nil {
		return err
	}
	if err := w.events.SetReadBuffer(receiveBuffer); err != nil {
		return err
	}
	if w.request, err = netlink.Dial(unix.NETLINK_ROUTE, nil); err != nil {
		return err
	}
	w.ethtool, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		w.ethtool, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
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
	if w.ethtool >= 0 {
		errs = append(errs, unix.Close(w.ethtool))
	}
	return errors.Join(errs...)
}

// Run calls f with all interfaces, by index, at once and whenever they differ from the last call, until ctx ends (its
// error is then nil) or netlink fails. What changed and changed back between two calls may go unnoticed, except that
// an interface that went and came again has a new Generation. A Watcher runs once.
func (w *Watcher) Run(ctx context.Context, f func([]Link)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { // unblocks Receive
		past := time.Unix(1, 0)
		_ = w.events.SetReadDeadline(past)
		_ = w.request.SetReadDeadline(past)
	})
	defer stop()
	failed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		failed <- w.listen()
	}()

	err := w.follow(ctx, f, failed)
	cancel()
	<-ended
	if errors.Is(err, os.ErrDeadlineExceeded) { // only the end of ctx sets one
		err = nil
	}
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// follow dumps and calls f as long as notifications come.
func (w *Watcher) follow(ctx context.Context, f func([]Link), failed <-chan error) error {
	var last []Link
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-w.dirty:
		}
		links, err := w.dump()
		if err != nil {
			return err
		}
		if first || !slices.EqualFunc(links, last, Link.Equal) {
			f(links)
			last, first = links, false
		}
	}
}

// listen reads notifications and marks the state as dirty.
func (w *Watcher) listen() error {
	for {
		msgs, err := w.events.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.lost()
		case err != nil:
			return err
		}
		for _, m := range msgs {
			if m.Header.Type == unix.RTM_DELLINK {
				w.gone(m.Data)
			}
		}
		w.Refresh()
	}
}

// Refresh makes Run look again, for what the kernel does not notify of: a BPF link attached to an interface.
func (w *Watcher) Refresh() {
	select {
	case w.dirty <- struct{}{}:
	default: // it is about to
	}
}

// gone notes that an interface is no longer there, so that its index may mean another.
func (w *Watcher) gone(msg []byte) {
	l, ok, err := parseLink(msg)
	if !ok || err != nil && l.Index == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.generation[l.Index]++
}

// lost notes that interfaces may have come and gone without notice.
func (w *Watcher) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.base++
}

// dump asks the kernel for all interfaces and addresses.
func (w *Watcher) dump() ([]Link, error) {
	// Generations are read before the dump: a notification that comes during it makes another one follow.
	w.mu.Lock()
	base, generation := w.base, make(map[int]uint64, len(w.generation))
	for index, n := range w.generation {
		generation[index] = n
	}
	w.mu.Unlock()

	msgs, err := w.ask(unix.RTM_GETLINK, unix.SizeofIfInfomsg)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var links []Link
	for _, m := range msgs {
		l, ok, err := parseLink(m.Data)
		if err != nil || !ok {
			continue // one odd interface must not hide the others
		}
		l.Generation = base<<32 + generation[l.Index]
		l.Driver, l.StripsTags = driver(w.ethtool, l.Name), stripsTags(w.ethtool, l.Name)
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b Link) int { return a.Index - b.Index })

	msgs, err = w.ask(unix.RTM_GETADDR, unix.SizeofIfAddrmsg)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range msgs {
		index, p, ok, err := parseAddr(m.Data)
		if err != nil || !ok {
			continue
		}
		if i := slices.IndexFunc(links, func(l Link) bool { return l.Index == index }); i >= 0 {
			links[i].Addrs = append(links[i].Addrs, p.Addr())
			links[i].Prefixes = append(links[i].Prefixes, p)
		}
	}
	for i := range links {
		slices.SortFunc(links[i].Addrs, netip.Addr.Compare)
		slices.SortFunc(links[i].Prefixes, netip.Prefix.Compare)
	}
	return links, nil
}

// ask dumps one kind of object. The header of the request is all zero: no filter.
func (w *Watcher) ask(kind netlink.HeaderType, header int) ([]netlink.Message, error) {
	return w.request.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, header),
	})
}

// List returns the interfaces of the network namespace that the calling thread is in.
func List() ([]Link, error) {
	w, err := Open()
	if err != nil {
		return nil, err
	}
	links, err := w.dump()
	return links, errors.Join(err, w.Close())
}
