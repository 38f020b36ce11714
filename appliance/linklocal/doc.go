// Package linklocal gives interfaces of the appliance an IPv4 address by themselves (RFC 3927) where no DHCP server does: on a cable
// between two machines, or on a switch with boxes alone. gokrazy has DHCP, but not this. With such addresses the status page can be
// reached, and nodes of a private network find each other and form a DHT.
//
// IPv6 link-local addresses, which every interface has, cannot do that: they mean nothing without the interface (their zone, RFC 4007),
// and KRPC's compact contacts (BEP 5, BEP 32) are 16 bytes of address and 2 of port, without room for one. A node that got fe80::1 from
// another could not tell where to send. So such contacts are left out everywhere, and a LAN needs IPv4 addresses, of any kind, or
// IPv6 prefixes.
//
// The address is given up as soon as the interface has another one. One thing of RFC 3927 is not done: answers to ARP requests are the
// kernel's, which are not broadcast (section 2.5), so that two networks that are joined find a conflict only when one of them speaks.
package linklocal
