package store

import (
	"encoding/binary"
	"net/netip"
)

// source is who is charged for an entry: an IPv4 address or an IPv6 /64, the
// smallest network that one subscriber is given. The zero source is the node
// itself, which is never charged.
type source uint64

// sourceOf folds an address into its source. IPv4 addresses map into 0:1::/32,
// which is reserved by the IETF.
func sourceOf(a netip.Addr) source {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return 1<<32 | source(binary.BigEndian.Uint32(b[:]))
	case a.Is6():
		b := a.As16()
		return source(binary.BigEndian.Uint64(b[:8]))
	}
	return 0
}
