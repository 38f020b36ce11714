package router

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"kdht/bpf"
)

// View is the immutable state that queries are answered from: what the kernel half was given, laid out for reading.
// It is safe for concurrent use.
type View struct {
	snapshot *bpf.Snapshot
	sides    [2]side   // by Family
	secret   [2]uint64 // halves of the write-token key
}

// NewView lays out a snapshot. It keeps s, which must not change any more. It fails if a table has more than 8
// contacts in one bucket, too many buckets, one ID twice, or our own ID: such a table has no defined answer.
func NewView(s *bpf.Snapshot) (*View, error) {
	v := &View{
		snapshot: s,
		secret:   secretWords(s.Secret),
	}
	width := max(s.Bits, 1)
	if s.Bits < 0 || s.Bits > maxLevelBits {
		return nil, fmt.Errorf("router: levels of %d bits; want 1 to %d", s.Bits, maxLevelBits)
	}
	var err error
	v.sides[IPv4], err = newSide(s.ID4, width, "5:nodes", compactLen4, len(s.Nodes4), func(i int) []byte { return s.Nodes4[i][:] })
	if err != nil {
		return nil, err
	}
	v.sides[IPv6], err = newSide(s.ID6, width, "6:nodes6", compactLen6, len(s.Nodes6), func(i int) []byte { return s.Nodes6[i][:] })
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Snapshot returns the snapshot that the view was made from.
func (v *View) Snapshot() *bpf.Snapshot { return v.snapshot }

// AppendClosest appends the contacts of a family closest to target, at most 8, as compact node info. Exactly the
// closest are chosen; they come by bucket in order of distance, and inside a bucket in the snapshot's order.
func (v *View) AppendClosest(b []byte, f Family, target ID) []byte {
	return v.sides[f].appendClosest(b, &target)
}

// Token returns the write token of an address: a keyed PRF of the address and the current secret, and of nothing
// else, because clients change port and ID between asking and storing (BEP 5, BEP 44).
func (v *View) Token(a netip.Addr) [8]byte {
	return token(v.secret, a)
}

// appendAddr appends an address and port in compact form, 6 or 18 bytes. The address must not be IPv4-mapped.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		ip := a.Addr().As4()
		b = append(b, ip[:]...)
	} else {
		ip := a.Addr().As16()
		b = append(b, ip[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}
