package discover

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"kdht/router"
)

const (
	// maxNeighbours bounds the neighbours remembered on an interface. Those that are there stay; others must wait.
	maxNeighbours = 64
	// maxPerSender bounds how many of them one sender may announce: a host may run several nodes, or pass on what it hears.
	maxPerSender = 4
	// maxPerFamily bounds the addresses of one neighbour that are considered.
	maxPerFamily = 4
	// maxTTL bounds for how long a neighbour is remembered that says nothing more.
	maxTTL = 10 * time.Minute
)

// neighbour is another node on the link of an interface, as it says.
type neighbour struct {
	name    string
	sender  netip.Addr // that announced it first
	text    Text
	addrs   []netip.AddrPort
	first   time.Time
	last    time.Time
	expires time.Time
}

// verdict is what became of an instance that was heard.
type verdict int

const (
	heardUs      verdict = iota
	heardOther           // of another network
	heardOffLink         // no address of it is on the link
	heardTooMany
	heardGoodbye
	heardKnown // nothing new
	heardNew   // a neighbour, or new addresses of one
)

// hear takes in what was announced on an interface.
func (f *iface) hear(s *instance, sender netip.Addr, now time.Time) verdict {
	key := strings.ToLower(s.Name)
	old := f.neighbours[key]
	switch {
	case f.task.names.own(s.Name):
		return heardUs
	case s.TTL == 0:
		if old == nil {
			return heardKnown
		}
		delete(f.neighbours, key)
		return heardGoodbye
	case s.Text.Network != f.task.config.network() || s.Text.Name != f.task.config.Name:
		return heardOther
	}
	addrs := f.onLink(s)
	switch {
	case len(addrs) == 0:
		return heardOffLink
	case old == nil && (len(f.neighbours) >= maxNeighbours || f.announcedBy(sender) >= maxPerSender):
		return heardTooMany
	}
	n := &neighbour{name: s.Name, sender: sender, first: now}
	result := heardNew
	if old != nil {
		n.sender, n.first = old.sender, old.first
		if slices.Equal(old.addrs, addrs) {
			result = heardKnown
		}
	}
	n.text, n.addrs, n.last = s.Text, addrs, now
	n.expires = now.Add(min(time.Duration(s.TTL)*time.Second, maxTTL))
	f.neighbours[key] = n
	return result
}

// announcedBy returns how many neighbours a sender has announced.
func (f *iface) announcedBy(sender netip.Addr) (count int) {
	for _, n := range f.neighbours {
		if n.sender == sender {
			count++
		}
	}
	return count
}

// onLink returns the addresses of an instance at which a node can be and that are on the prefixes of the interface.
func (f *iface) onLink(s *instance) (all []netip.AddrPort) {
	var count [2]int // by router.Family
	for _, a := range s.Addrs {
		a := netip.AddrPortFrom(a, s.Port)
		family := router.FamilyOf(a.Addr())
		if count[family] == maxPerFamily || !router.Usable(a, f.task.config.Private) || !f.reaches(a.Addr()) || f.answersAt(a) || slices.Contains(all, a) {
			continue
		}
		count[family]++
		all = append(all, a)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return all
}

// reaches reports whether a host may have an address on the link: it is in a prefix of the interface, and neither the
// prefix's own address nor that of all its hosts.
func (f *iface) reaches(a netip.Addr) bool {
	return slices.ContainsFunc(f.link.Prefixes, func(p netip.Prefix) bool {
		if !p.Contains(a) {
			return false
		}
		return a.Is6() || p.Bits() >= 31 || a != p.Masked().Addr() && a != broadcast(p)
	})
}

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := range b {
		host := max(0, min(8, (i+1)*8-p.Bits())) // bits of this byte that number hosts
		b[i] |= byte(1<<host - 1)
	}
	return netip.AddrFrom4(b)
}

// answersAt reports whether the node itself can be reached at an address.
func (f *iface) answersAt(a netip.AddrPort) bool {
	return slices.ContainsFunc(f.instances, func(s instance) bool { return s.Port == a.Port() && slices.Contains(s.Addrs, a.Addr()) })
}

// sentBy reports whether a host on the link may have sent a datagram (RFC 6762, section 11).
func (f *iface) sentBy(a netip.Addr) bool {
	return a.Is6() && a.IsLinkLocalUnicast() ||
		slices.ContainsFunc(f.link.Prefixes, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// expire forgets the neighbours whose time is over, and reports whether there were any.
func (f *iface) expire(now time.Time) (any bool) {
	for key, n := range f.neighbours {
		if !now.Before(n.expires) {
			delete(f.neighbours, key)
			any = true
		}
	}
	return any
}

// sorted returns the neighbours, longest known first.
func (f *iface) sorted() []*neighbour {
	all := make([]*neighbour, 0, len(f.neighbours))
	for _, n := range f.neighbours {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *neighbour) int {
		if c := a.first.Compare(b.first); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return all
}
