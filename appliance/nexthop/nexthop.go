package nexthop

import "net/netip"

// Route is where datagrams to a prefix go.
type Route struct {
	Prefix netip.Prefix
	// Ifindex is the interface that they leave by; 0: nothing can be said, or they do not leave this host.
	Ifindex int
	// Gateway is the next hop, without zone; the zero Addr: the destination is on the link.
	Gateway netip.Addr
	// Source is the address that they have by preference; the zero Addr: none.
	Source netip.Addr
}

// Neighbour is a host on a link.
type Neighbour struct {
	Ifindex int
	Addr    netip.Addr // without zone
	MAC     [6]byte
}

// Changes tells what is different from before.
type Changes struct {
	// All says that Routes and Neighbours are all there are, and Gone is empty.
	All bool
	// Routes are all routes, each prefix once, if All.
	Routes []Route
	// Policy says that the host has rules of policy routing, so that the routes are not all that decides. There are none
	// then.
	Policy bool
	// Neighbours are new, or have another link address. Gone have none any more that is known.
	Neighbours, Gone []Neighbour
}
