package router

import (
	"net/netip"
	"strconv"

	"kdht/router/krpc"
)

// Answer appends the reply to a query that needs nothing but the routing tables: ping, find_node, and get_peers and
// get for a key that is not held here. It returns false, and dst as it was, for anything else, for a query that
// lacks what its method needs, and for a transaction ID that would make the reply too long.
//
// The asker's family decides our ID, and the contacts unless the query says which it wants (BEP 32). The kernel
// half answers the same queries with the same bytes.
func (v *View) Answer(dst []byte, m *krpc.Message, from netip.AddrPort) ([]byte, bool) {
	if m.Type != krpc.TypeQuery || !m.HasID {
		return dst, false
	}
	var target *ID
	write := false
	switch m.Method {
	case krpc.MethodPing:
	case krpc.MethodFindNode, krpc.MethodUnknown: // Decode lets an unknown method with a target pass as find_node
		if !m.HasTarget {
			return dst, false
		}
		target = &m.Target
	case krpc.MethodGet:
		if !m.HasTarget {
			return dst, false
		}
		target, write = &m.Target, true
	case krpc.MethodGetPeers:
		if !m.HasInfoHash {
			return dst, false
		}
		target, write = &m.InfoHash, true
	default:
		return dst, false
	}

	addr := from.Addr().Unmap()
	family, want := IPv4, m.Want
	b := dst
	if addr.Is4() {
		if want == 0 {
			want = krpc.WantN4
		}
		b = append(b, "d2:ip6:"...)
	} else {
		family = IPv6
		if want == 0 {
			want = krpc.WantN6
		}
		b = append(b, "d2:ip18:"...)
	}
	b = appendAddr(b, netip.AddrPortFrom(addr, from.Port()))
	b = append(b, v.sides[family].head...)
	if target != nil && want&krpc.WantN4 != 0 {
		b = append(b, v.sides[IPv4].key...)
		b = v.sides[IPv4].appendClosest(b, target)
	}
	if target != nil && want&krpc.WantN6 != 0 {
		b = append(b, v.sides[IPv6].key...)
		b = v.sides[IPv6].appendClosest(b, target)
	}
	if write {
		t := token(v.secret, addr)
		b = append(b, "5:token8:"...)
		b = append(b, t[:]...)
	}
	b = append(b, "e1:t"...)
	b = strconv.AppendInt(b, int64(len(m.TID)), 10)
	b = append(b, ':')
	b = append(b, m.TID...)
	b = append(b, "1:v4:"+krpc.Version+"1:y1:re"...)
	if len(b)-len(dst) > krpc.MaxPayload {
		return dst, false
	}
	return b, true
}
