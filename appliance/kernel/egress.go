package kernel

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"kdht/appliance/link"
	"kdht/appliance/nexthop"
	"kdht/bpf"
)

// NextHops is a source of routes and neighbours; *nexthop.Watcher is one.
type NextHops interface {
	Run(ctx context.Context, f func(nexthop.Changes)) error
	Close() error
}

// egress keeps the program informed of how its own queries leave this host: from the routes, the interfaces, and where
// the program is attached.
type egress struct {
	h       *Half
	program Program

	mu     sync.Mutex
	known  bool
	routes []nexthop.Route
	policy bool
	links  []link.Link
	native map[int]bool // the program is attached there, by the driver
	told   []bpf.Route
}

// run follows the host's routes and neighbours until ctx ends. Without them there is no recursion in the kernel, but
// everything else.
func (e *egress) run(ctx context.Context) error {
	next, err := e.h.c.NextHops()
	if err == nil {
		err = next.Run(ctx, e.changed)
		_ = next.Close() // only descriptors
	}
	if err != nil && ctx.Err() == nil {
		e.h.c.Log.Error("the kernel half learns no routes, recursion is left to user space", "err", err)
		e.changed(nexthop.Changes{All: true})
		<-ctx.Done()
	}
	return nil
}

// changed takes in what has changed.
func (e *egress) changed(c nexthop.Changes) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var neighbours []bpf.Neighbour
	for _, n := range c.Neighbours {
		neighbours = append(neighbours, bpf.Neighbour(n))
	}
	var err error
	if c.All {
		if c.Policy && !e.policy {
			e.h.c.Log.Info("the host has rules of policy routing: the kernel half leaves recursion to user space")
		}
		e.known, e.routes, e.policy = true, c.Routes, c.Policy
		err = e.program.SetNeighbours(neighbours)
		e.publish()
	} else {
		for _, n := range neighbours {
			if err == nil {
				err = e.program.AddNeighbour(n)
			}
		}
		for _, n := range c.Gone {
			if err == nil {
				err = e.program.RemoveNeighbour(bpf.Neighbour(n))
			}
		}
	}
	if err != nil {
		e.h.c.Log.Warn("the kernel half does not know all neighbours", "err", err)
	}
}

// interfaces takes in what the interfaces are now.
func (e *egress) interfaces(links []link.Link, native map[int]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.links, e.native = links, native
	e.publish()
}

// publish tells the program the routes, if they are others than before.
func (e *egress) publish() {
	if !e.known {
		return
	}
	routes := Routes(e.routes, e.links, e.h.c.Listen, e.native)
	if slices.Equal(routes, e.told) {
		return
	}
	if err := e.program.SetRoutes(routes); err != nil {
		e.h.c.Log.Warn("the kernel half was not told the routes", "routes", len(routes), "err", err)
		return
	}
	e.told = routes
}

// Routes makes of the host's routes those that the program can send by: over Ethernet, from an address of ours that a
// socket listens at. native are the interfaces that take frames from others, because the program is attached there by
// their driver. What cannot be used is there too, since a route that is less specific must not be taken in its stead.
func Routes(routes []nexthop.Route, links []link.Link, listen []netip.AddrPort, native map[int]bool) []bpf.Route {
	var all []bpf.Route
	for _, r := range routes {
		out := bpf.Route{Prefix: r.Prefix}
		i := slices.IndexFunc(links, func(l link.Link) bool { return l.Index == r.Ifindex })
		if r.Ifindex > 0 && i >= 0 {
			l := links[i]
			source, ok := source(r, l, listen)
			if ok && l.Up && l.Type == unix.ARPHRD_ETHER && l.MAC != [6]byte{} && !l.Loopback {
				out = bpf.Route{Prefix: r.Prefix, Ifindex: r.Ifindex, MAC: l.MAC, Gateway: r.Gateway, Source: source, Redirect: native[r.Ifindex]}
			}
		}
		all = append(all, out)
	}
	slices.SortFunc(all, func(a, b bpf.Route) int { return a.Prefix.Compare(b.Prefix) })
	return all
}

// source is the address and port that queries by a route come from: those of the family's first socket. If that is bound
// to all addresses, it is the route's own choice, or of the interface's addresses the one that fits the next hop best.
func source(r nexthop.Route, l link.Link, listen []netip.AddrPort) (netip.AddrPort, bool) {
	v4 := r.Prefix.Addr().Is4()
	i := slices.IndexFunc(listen, func(a netip.AddrPort) bool { return a.Addr().Unmap().Is4() == v4 })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	at := netip.AddrPortFrom(listen[i].Addr().Unmap().WithZone(""), listen[i].Port())
	switch {
	case !at.Addr().IsUnspecified():
		return at, !at.Addr().IsLoopback()
	case r.Source.IsValid():
		return netip.AddrPortFrom(r.Source, at.Port()), true
	}
	towards := r.Gateway
	if !towards.IsValid() || towards.IsLinkLocalUnicast() {
		towards = r.Prefix.Addr()
	}
	best, rank := netip.Addr{}, -1
	for _, p := range l.Prefixes {
		a := p.Addr()
		if a.Is4() != v4 || a.IsLinkLocalUnicast() {
			continue
		}
		n := 0
		if p.Contains(towards) {
			n += 2
		}
		if far := r.Prefix.Bits() == 0; far != a.IsPrivate() { // to everywhere from a global address
			n++
		}
		if n > rank {
			best, rank = a, n
		}
	}
	return netip.AddrPortFrom(best, at.Port()), best.IsValid()
}
