// Package discover lets the nodes of one network that are on one LAN find each other with no configuration: each
// announces itself as an instance of the DNS-SD service _kdht._udp (RFC 6763) by multicast DNS (RFC 6762), and gives the
// addresses of the others to its router as hints ([router.Node.SetHints]). A hint is a place to ask, no more: only who
// answers gets into a routing table.
//
// A [Task] follows the interfaces of the host. On each that is up, carries multicast and has an address at which the
// node can be reached from there it has a socket per family, bound to the interface and to the multicast group, so that
//
//   - what is heard on one interface is never mixed up with what is heard on another, only the addresses of an interface
//     are announced there, and link-local sources need no zone;
//   - no unicast datagram to port 5353 arrives here: a responder that serves the whole host, such as Avahi, goes on as if
//     we were not there, and nobody from off the link can speak to us.
//
// What others say is believed as little as possible. A message is understood by itself: its SRV, TXT and address records
// must all be in it (as RFC 6763, section 12 has it sent), so that nothing is kept of incomplete ones. Of the addresses in it only
// those on the prefixes of the interface count. The neighbours remembered are bounded per interface and per sender, and
// the router bounds how often an address is asked, whatever is announced.
//
// Names are made from 64 random bits of this process, so they need no probing (RFC 6762, section 8.1), and who else
// claims one is not listened to. Records are asked for when an interface comes, changes its address or gets its carrier
// back, and then again and again with pauses that double up to half a minute: this is what finds others after lost
// packets, and when two networks are plugged together.
//
// Without a DHCP server boxes find each other by the IPv4 addresses that they give themselves; why IPv6 link-local ones will not do says
// package linklocal.
//
// # Why no mDNS library
//
// The codec is golang.org/x/net/dns/dnsmessage. The libraries on top of one that are kept up (hashicorp/mdns 1.0.7,
// pion/mdns 2.2.2) announce nothing by themselves and say no goodbye, fix interfaces and addresses when they start, give
// an answer one address, possibly of another interface, and do not tell where it was heard; pion's browser remembers all
// names that it ever heard.
//
// Not here: who may enter a routing table, and how often an address is asked (router); the interfaces (appliance/link).
package discover
