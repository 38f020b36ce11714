package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"kdht/appliance/link"
)

// Endpoints returns the addresses and ports on which datagrams for sockets bound to listen can arrive from a network,
// sorted: for an unspecified address, every address of its family that an interface has. Loopback addresses are left
// out, which the stack accepts from no network, unless the kernel half is attached to the loopback interface itself.
func Endpoints(listen []netip.AddrPort, links []link.Link, loopback bool) []netip.AddrPort {
	var all []netip.AddrPort
	add := func(a netip.Addr, port uint16) {
		a = a.Unmap().WithZone("")
		if port != 0 && (loopback || !a.IsLoopback()) {
			all = append(all, netip.AddrPortFrom(a, port))
		}
	}
	for _, l := range listen {
		if !l.Addr().IsUnspecified() {
			add(l.Addr(), l.Port())
			continue
		}
		for _, link := range links {
			for _, a := range link.Addrs {
				if a.Is4() == l.Addr().Is4() {
					add(a, l.Port())
				}
			}
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// Groups returns the addresses and ports by which sockets bound to listen hear what is for many, sorted, as bpf.Program.SetEndpoints wants them: of those
// bound to all addresses of their family the groups, for which the unspecified address stands, and the broadcasts on the links.
func Groups(listen []netip.AddrPort, links []link.Link) []netip.AddrPort {
	var all []netip.AddrPort
	for _, l := range listen {
		if !l.Addr().IsUnspecified() || l.Port() == 0 {
			continue
		}
		all = append(all, l)
		if l.Addr().Is6() {
			continue
		}
		for _, link := range links {
			for _, p := range link.Prefixes {
				if p.Addr().Is4() && p.Bits() < 31 { // others have none (RFC 3021)
					all = append(all, netip.AddrPortFrom(broadcast(p), l.Port()))
				}
			}
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|^uint32(0)>>p.Bits())
	return netip.AddrFrom4(a)
}
