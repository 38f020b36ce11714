package krpc

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// Lengths in bytes of the compact forms of BEP 5 and BEP 32.
const (
	Addr4Len = 6                // IPv4 address and port
	Addr6Len = 18               // IPv6 address and port
	Node4Len = IDLen + Addr4Len // node ID, IPv4 address and port: one contact of "nodes"
	Node6Len = IDLen + Addr6Len // node ID, IPv6 address and port: one contact of "nodes6"
)

// AppendAddr appends the compact form of a: 6 bytes for IPv4 (and IPv4 mapped into IPv6), else 18.
func AppendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		x := ip.As4()
		b = append(b, x[:]...)
	} else {
		x := ip.As16()
		b = append(b, x[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// AddrFrom reads a compact address of exactly 6 or 18 bytes. An IPv4-mapped address in the long form stays mapped, so
// that callers can tell and refuse it.
func AddrFrom(b []byte) (netip.AddrPort, bool) {
	switch len(b) {
	case Addr4Len:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:])), true
	case Addr6Len:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[16:])), true
	}
	return netip.AddrPort{}, false
}

// AppendNode appends the compact form of a contact: 26 bytes for IPv4, 38 for IPv6 (BEP 5, BEP 32).
func AppendNode(b []byte, id ID, a netip.AddrPort) []byte {
	return AppendAddr(append(b, id[:]...), a)
}

// Nodes iterates over compact IPv4 contacts, as in Message.Nodes. Trailing bytes that are no whole contact are left out.
func Nodes(b []byte) iter.Seq2[ID, netip.AddrPort] { return contacts(b, Node4Len) }

// Nodes6 iterates over compact IPv6 contacts, as in Message.Nodes6. Trailing bytes that are no whole contact are left
// out.
func Nodes6(b []byte) iter.Seq2[ID, netip.AddrPort] { return contacts(b, Node6Len) }

func contacts(b []byte, size int) iter.Seq2[ID, netip.AddrPort] {
	return func(yield func(ID, netip.AddrPort) bool) {
		for ; len(b) >= size; b = b[size:] {
			a, _ := AddrFrom(b[IDLen:size])
			if !yield(ID(b[:IDLen]), a) {
				return
			}
		}
	}
}

// AppendPeer appends a peer in the form Message.Values holds: a bencoded string with a compact address.
func AppendPeer(values []byte, a netip.AddrPort) []byte {
	if a.Addr().Unmap().Is4() {
		values = append(values, "6:"...)
	} else {
		values = append(values, "18:"...)
	}
	return AppendAddr(values, a)
}

// Peers iterates over the peers of Message.Values; elements that are no compact address are left out.
func Peers(values []byte) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for s := range peerStrings(values) {
			if a, _ := AddrFrom(s); !yield(a) {
				return
			}
		}
	}
}

// peerStrings iterates over the strings in values that are compact addresses by their length.
func peerStrings(values []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := 0; i < len(values); {
			k, start, _, end := valueAt(values, i, 0)
			if end < 0 {
				return
			}
			if n := end - start; k == kindString && (n == Addr4Len || n == Addr6Len) && !yield(values[start:end]) {
				return
			}
			i = end
		}
	}
}

// Samples iterates over the infohashes of Message.Samples.
func Samples(b []byte) iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for ; len(b) >= IDLen; b = b[IDLen:] {
			if !yield(ID(b[:IDLen])) {
				return
			}
		}
	}
}
