package router

import "net/netip"

// What a node of the public network must never be said to live at, beside what [netip.Addr] has predicates for.
// Documentation and benchmarking ranges are not here: they are what test networks are made of.
var (
	notPublic4 = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // shared by the customers of one provider (RFC 6598)
	}
	notUnicast4 = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),   // "this network" (RFC 1122)
		netip.MustParsePrefix("240.0.0.0/4"), // reserved, and limited broadcast (RFC 1112)
	}
	global6 = netip.MustParsePrefix("2000::/3") // global unicast (RFC 4291)
)

// Usable reports whether a node can live at an address: a unicast address that compact node info can carry, and a
// port. In the public network it must be one that every node can reach; in a private network loopback and private
// ranges will do. IPv4-mapped IPv6 addresses are never usable: they would be IPv4 nodes in the IPv6 table.
func Usable(a netip.AddrPort, private bool) bool {
	ip := a.Addr()
	if a.Port() == 0 || !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.Is4In6() || ip.Zone() != "" {
		return false
	}
	if ip.Is4() {
		if within(ip, notUnicast4) {
			return false
		}
		return private || !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !within(ip, notPublic4)
	}
	if private {
		return !ip.IsLinkLocalUnicast() // means nothing without its zone
	}
	return global6.Contains(ip)
}

// answerable reports whether a datagram can go back to where one came from. The network stack passes some IPv6 sources
// that it cannot send to, and the unspecified address, which it takes for the loopback address when it sends.
func answerable(from netip.AddrPort) bool {
	a := from.Addr()
	return from.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6()
}

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
