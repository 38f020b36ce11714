// Package tailnet tells clients in a tailnet of this host from strangers.
//
// The IPv4 addresses of tailnets are from 100.64.0.0/10, which providers use for the customers behind their NAT as well (RFC
// 6598): who has such an address may be a stranger. So a list of prefixes that others are trusted by has only the range of a
// tailnet's IPv6 addresses, fd7a:115c:a1e0::/48, in the defaults as well, and that stands for the IPv4 ones too: for what
// was sent to an address of this host's interface to the tailnet, which is known by having an address of either range. What
// a provider routes does not come there. A list with 100.64.0.0/10 itself, or a part of it, means what it says.
package tailnet

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

var (
	range4 = netip.MustParsePrefix("100.64.0.0/10")
	range6 = netip.MustParsePrefix("fd7a:115c:a1e0::/48")
)

// lookAgain is how old what is known of the host's interfaces may be.
const lookAgain = 10 * time.Second

// Trusted are clients that a list of prefixes trusts, those of a tailnet included. Safe for concurrent use.
type Trusted struct {
	tailnets bool

	mu     sync.Mutex
	looked time.Time
	ours   []netip.Addr // IPv4 addresses of this host in tailnets
}

// Of returns who is trusted by a list, beside those that it contains.
func Of(prefixes []netip.Prefix) *Trusted {
	return &Trusted{tailnets: slices.Contains(prefixes, range6)}
}

// Contains reports whether the sender of something that was sent to an address of ours is a client in a tailnet.
func (t *Trusted) Contains(from, to netip.Addr) bool {
	if !t.tailnets || !range4.Contains(from.Unmap()) || !range4.Contains(to.Unmap()) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.looked.IsZero() || now.Sub(t.looked) > lookAgain {
		t.looked, t.ours = now, ours()
	}
	return slices.Contains(t.ours, to.Unmap())
}

// ours lists this host's IPv4 addresses in tailnets; none if it cannot tell.
func ours() (all []netip.Addr) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it is gone
		}
		var four []netip.Addr
		six := false
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); ok && range4.Contains(ip) {
				four = append(four, ip)
			}
			six = six || ok && range6.Contains(ip)
		}
		if six {
			all = append(all, four...)
		}
	}
	return all
}
