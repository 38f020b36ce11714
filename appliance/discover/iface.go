package discover

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/appliance/link"
	"kdht/router"
)

const (
	// openPause is how long to wait before a socket that failed is opened again.
	openPause = 10 * time.Second
	// maxAddrs bounds the addresses of one family that are announced for one port.
	maxAddrs = 8
)

// iface is an interface on which the node announces itself.
type iface struct {
	task      *Task
	link      link.Link
	instances []instance // what is announced
	sockets   [2]*socket // by router.Family
	errs      [2]error   // why there is none, or the last error of sending
	reopen    time.Time

	announce, ask schedule
	answerAt      time.Time // zero: nobody waits for an answer
	enumerate     bool      // somebody asked for types of service
	sent          time.Time // last announcement or answer
	legacy        time.Time // last answer to one host

	neighbours map[string]*neighbour // by name, in lower case
}

// unsuitable returns why an interface is not for discovery, or "".
func unsuitable(l link.Link) string {
	switch {
	case l.Loopback:
		return "it is the loopback interface"
	case !l.Up:
		return "it is down"
	case !l.Multicast:
		return "it carries no multicast"
	case l.PointToPoint:
		return "it is point-to-point"
	case l.Master != 0 && l.PortKind != "vrf":
		return "it is a port of another interface"
	}
	return ""
}

// listensAt returns the addresses of an interface at which the node can be reached, by port.
func (c *Config) listensAt(l link.Link) map[uint16][]netip.Addr {
	all := make(map[uint16][]netip.Addr)
	for _, bound := range c.Listen {
		count := 0
		for _, p := range l.Prefixes {
			a := netip.AddrPortFrom(p.Addr().Unmap(), bound.Port())
			if a.Addr().Is4() != bound.Addr().Is4() || !bound.Addr().IsUnspecified() && bound.Addr() != a.Addr() || !router.Usable(a, c.Private) {
				continue
			}
			if count++; count <= maxAddrs && !slices.Contains(all[a.Port()], a.Addr()) {
				all[a.Port()] = append(all[a.Port()], a.Addr())
			}
		}
	}
	return all
}

// describe composes what is announced on an interface, sorted by port.
func (t *Task) describe(l link.Link) (all []instance) {
	byPort := t.config.listensAt(l)
	for port, addrs := range byPort {
		name, host := t.names.instance(port, len(byPort) == 1)
		text := Text{Network: t.config.network(), Name: t.config.Name, Version: t.version}
		var families []string
		for f, digit := range []string{"4", "6"} {
			if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return router.FamilyOf(a) == router.Family(f) }) {
				text.ID[f] = t.config.Node.ID(router.Family(f))
				families = append(families, digit)
			}
		}
		text.Families = strings.Join(families, ",")
		all = append(all, instance{Name: name, Host: host, Port: port, Text: text, Addrs: addrs})
	}
	slices.SortFunc(all, func(a, b instance) int { return int(a.Port) - int(b.Port) })
	return all
}

// follow takes in the present state of the interface, and begins anew if it is another one, has other addresses, or
// has got its carrier back: perhaps on another network.
func (f *iface) follow(l link.Link, now time.Time) (changed bool) {
	old := f.link
	f.link = l
	instances := f.task.describe(l)
	moved := !slices.Equal(old.Prefixes, l.Prefixes)
	anew := old.Generation != l.Generation || l.Carrier && !old.Carrier || moved
	f.instances = instances
	if old.Generation != l.Generation {
		f.close()
	}
	f.open(now)
	if !l.Carrier && len(f.neighbours) > 0 {
		clear(f.neighbours)
		changed = true
	}
	if moved {
		for key, n := range f.neighbours {
			n.addrs = slices.DeleteFunc(slices.Clone(n.addrs), func(a netip.AddrPort) bool { return !f.reaches(a.Addr()) })
			if changed = true; len(n.addrs) == 0 {
				delete(f.neighbours, key)
			}
		}
	}
	if anew {
		f.announce.start(now, announcements)
		f.ask.start(now, -1)
	}
	return changed
}

// open opens the sockets that are missing: one in each family in which the interface has an address of any kind.
func (f *iface) open(now time.Time) {
	f.reopen = time.Time{}
	for family := range f.sockets {
		family := router.Family(family)
		has := slices.ContainsFunc(f.link.Addrs, func(a netip.Addr) bool { return router.FamilyOf(a) == family })
		switch s := f.sockets[family]; {
		case s != nil && !has:
			f.drop(s)
		case s == nil && has:
			s, err := openSocket(family, f.link.Index, f.link.Name)
			f.fault(family, err)
			if err != nil {
				f.reopen = now.Add(openPause)
				continue
			}
			f.sockets[family] = s
			go s.read(f.task.packets, f.task.over)
		}
	}
}

// drop closes a socket.
func (f *iface) drop(s *socket) {
	_ = s.conn.Close() // a socket for datagrams has nothing left to do
	f.sockets[s.family] = nil
}

// close closes the sockets.
func (f *iface) close() {
	for _, s := range f.sockets {
		if s != nil {
			f.drop(s)
		}
	}
}

// fault notes an error, and logs it if it is a new one.
func (f *iface) fault(family router.Family, err error) {
	if old := f.errs[family]; err != nil && (old == nil || old.Error() != err.Error()) {
		f.task.log.Warn("discovery is hindered", "interface", f.link.Name, "family", family, "err", err)
	}
	f.errs[family] = err
}
