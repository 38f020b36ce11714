package router

import (
	"encoding/binary"
	"net/netip"
)

// Family is an IP version. Each has its own DHT, routing table and node ID (BEP 32).
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// FamilyOf returns the family of an address. An IPv4-mapped IPv6 address, which is how a dual-stack socket shows
// IPv4 sources, is IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

// Contact is what one node knows of another: its ID and the UDP address that it answers on.
type Contact struct {
	ID   ID
	Addr netip.AddrPort
}

// Sizes of compact node info in bytes: ID, address, port (BEP 5, BEP 32).
const (
	compactLen4 = 26
	compactLen6 = 38
)

// compact4 returns c as the compact node info of BEP 5. The address must be IPv4.
func (c *Contact) compact4() (n [compactLen4]byte) {
	a := c.Addr.Addr().As4()
	copy(n[:20], c.ID[:])
	copy(n[20:24], a[:])
	binary.BigEndian.PutUint16(n[24:], c.Addr.Port())
	return n
}

// compact6 returns c as the compact node info of BEP 32. The address must be IPv6.
func (c *Contact) compact6() (n [compactLen6]byte) {
	a := c.Addr.Addr().As16()
	copy(n[:20], c.ID[:])
	copy(n[20:36], a[:])
	binary.BigEndian.PutUint16(n[36:], c.Addr.Port())
	return n
}
