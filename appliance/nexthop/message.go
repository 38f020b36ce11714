package nexthop

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var errShort = errors.New("netlink message is too short")

// Attributes and flags of linux/rtnetlink.h and linux/neighbour.h that package unix lacks or names otherwise.
const (
	nudValid = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY
	nextDead = unix.RTNH_F_DEAD
)

// route is a route with what decides between several for one prefix.
type route struct {
	Route
	local    bool // of the table of local addresses, which comes before the main one
	priority uint32
}

// parseRoute reads an RTM_NEWROUTE message. ok is false for routes that do not count.
func parseRoute(b []byte) (r route, ok bool, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, false, errShort
	}
	family, bits, source, tos := b[0], int(b[1]), b[2], b[3]
	table, kind := uint32(b[4]), b[7]
	flags := binary.NativeEndian.Uint32(b[8:])
	if family != unix.AF_INET && family != unix.AF_INET6 || flags&unix.RTM_F_CLONED != 0 || flags&nextDead != 0 {
		return r, false, nil
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return r, false, err
	}
	dest, plain := netip.IPv4Unspecified(), true
	if family == unix.AF_INET6 {
		dest = netip.IPv6Unspecified()
	}
	addr := func(a *netip.Addr) { *a, _ = netip.AddrFromSlice(ad.Bytes()) }
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			addr(&dest)
		case unix.RTA_OIF:
			r.Ifindex = int(ad.Uint32())
		case unix.RTA_GATEWAY:
			addr(&r.Gateway)
		case unix.RTA_PREFSRC:
			addr(&r.Source)
		case unix.RTA_PRIORITY:
			r.priority = ad.Uint32()
		case unix.RTA_TABLE:
			table = ad.Uint32()
		case unix.RTA_MULTIPATH, unix.RTA_ENCAP, unix.RTA_VIA:
			plain = false
		}
	}
	if err := ad.Err(); err != nil {
		return r, false, err
	}
	if !dest.IsValid() || table != unix.RT_TABLE_MAIN && table != unix.RT_TABLE_LOCAL {
		return r, false, nil
	}
	r.Prefix, r.local = netip.PrefixFrom(dest, bits).Masked(), table == unix.RT_TABLE_LOCAL
	if !plain || kind != unix.RTN_UNICAST || source != 0 || tos != 0 || r.local {
		r.Ifindex, r.Gateway, r.Source = 0, netip.Addr{}, netip.Addr{}
	}
	return r, r.Prefix.IsValid(), nil
}

// before says whether the network stack prefers a route to another one for the same prefix.
func (r route) before(o route) bool {
	if r.local != o.local {
		return r.local
	}
	return r.priority < o.priority
}

// parseNeighbour reads an RTM_NEWNEIGH or RTM_DELNEIGH message. valid says whether the link address can be used, ok
// is false for messages of other families and of proxies.
func parseNeighbour(b []byte) (n Neighbour, valid, ok bool, err error) {
	if len(b) < unix.SizeofNdMsg {
		return n, false, false, errShort
	}
	if family := b[0]; family != unix.AF_INET && family != unix.AF_INET6 {
		return n, false, false, nil
	}
	n.Ifindex = int(int32(binary.NativeEndian.Uint32(b[4:])))
	state, flags, kind := binary.NativeEndian.Uint16(b[8:]), b[10], b[11]
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofNdMsg:])
	if err != nil {
		return n, false, false, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NDA_DST:
			n.Addr, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.NDA_LLADDR:
			if mac := ad.Bytes(); len(mac) == len(n.MAC) {
				copy(n.MAC[:], mac)
			}
		}
	}
	valid = state&nudValid != 0 && kind == unix.RTN_UNICAST && n.MAC != [6]byte{} && n.MAC[0]&1 == 0
	return n, valid, n.Addr.IsValid() && flags&unix.NTF_PROXY == 0, ad.Err()
}

// isPolicy reports whether an RTM_NEWRULE message is of another rule than the three that every host has.
func isPolicy(b []byte) (bool, error) {
	if len(b) < unix.SizeofRtMsg {
		return false, errShort
	}
	table, bits := uint32(b[4]), b[1]|b[2]|b[3]
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return false, err
	}
	odd := bits != 0
	for ad.Next() {
		switch ad.Type() {
		case unix.FRA_TABLE:
			table = ad.Uint32()
		case unix.FRA_PRIORITY, unix.FRA_PROTOCOL, unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_UNSPEC:
		default:
			odd = true
		}
	}
	main := table == unix.RT_TABLE_LOCAL || table == unix.RT_TABLE_MAIN || table == unix.RT_TABLE_DEFAULT
	return odd || !main, ad.Err()
}
