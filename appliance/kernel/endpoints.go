package kernel

import (
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
