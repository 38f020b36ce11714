package krpc

import (
	"hash/crc32"
	"net/netip"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NodeIDFor returns the node ID for a node whose external address is ip (BEP 42). r becomes the last byte, of which
// three bits enter the checksum; the bits BEP 42 leaves free come from random. An IPv4-mapped address counts as IPv4.
func NodeIDFor(ip netip.Addr, r byte, random [IDLen]byte) ID {
	id := ID(random)
	crc := nodeIDSum(ip, r)
	id[0] = byte(crc >> 24)
	id[1] = byte(crc >> 16)
	id[2] = byte(crc>>8)&0xf8 | random[2]&0x07
	id[IDLen-1] = r
	return id
}

// ValidNodeID reports whether a node at ip may have this ID (BEP 42). Every ID is valid at an address that is local:
// the ranges that BEP 42 exempts (10/8, 172.16/12, 192.168/16, 169.254/16, 127/8) and their IPv6 counterparts
// (fc00::/7, fe80::/10, ::1), where an external address says nothing.
func ValidNodeID(id ID, ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsLoopback() {
		return true
	}
	if !ip.IsValid() {
		return false
	}
	crc := nodeIDSum(ip, id[IDLen-1])
	return id[0] == byte(crc>>24) && id[1] == byte(crc>>16) && (id[2]^byte(crc>>8))&0xf8 == 0
}

// nodeIDSum is the CRC-32C over the masked address with the low three bits of r on top.
func nodeIDSum(ip netip.Addr, r byte) uint32 {
	ip = ip.Unmap()
	var buf [8]byte
	var masked []byte
	if ip.Is4() {
		a := ip.As4()
		for i, m := range [4]byte{0x03, 0x0f, 0x3f, 0xff} {
			buf[i] = a[i] & m
		}
		masked = buf[:4]
	} else {
		a := ip.As16()
		for i, m := range [8]byte{0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff} {
			buf[i] = a[i] & m
		}
		masked = buf[:]
	}
	masked[0] |= r << 5
	return crc32.Checksum(masked, castagnoli)
}
