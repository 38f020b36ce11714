package link

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var errShort = errors.New("netlink message is too short")

// xdpModes are the values of IFLA_XDP_ATTACHED (XDP_ATTACHED_NONE, _DRV, _SKB, _HW, _MULTI in linux/if_link.h).
var xdpModes = [...]string{"", "native", "generic", "offload", "several"}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK message. ok is false for messages of another family: those with
// AF_BRIDGE tell of a bridge's port, not of an interface.
func parseLink(b []byte) (l Link, ok bool, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, false, errShort
	}
	if b[0] != unix.AF_UNSPEC {
		return l, false, nil
	}
	l.Type = binary.NativeEndian.Uint16(b[2:])
	l.Index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	flags := binary.NativeEndian.Uint32(b[8:])
	l.Up = flags&unix.IFF_UP != 0
	l.Carrier = flags&unix.IFF_LOWER_UP != 0
	l.Loopback = flags&unix.IFF_LOOPBACK != 0
	l.Multicast = flags&unix.IFF_MULTICAST != 0
	l.PointToPoint = flags&unix.IFF_POINTOPOINT != 0
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return l, false, err
	}
	parent := 0
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_ADDRESS:
			if mac := ad.Bytes(); len(mac) == len(l.MAC) {
				copy(l.MAC[:], mac)
			}
		case unix.IFLA_MTU:
			l.MTU = int(ad.Uint32())
		case unix.IFLA_LINK:
			parent = int(ad.Uint32())
		case unix.IFLA_LINK_NETNSID:
			l.Elsewhere = true
		case unix.IFLA_PARENT_DEV_NAME:
			l.Device = ad.String()
		case unix.IFLA_MASTER:
			l.Master = int(ad.Uint32())
		case unix.IFLA_LINKINFO:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case unix.IFLA_INFO_KIND:
						l.Kind = ad.String()
					case unix.IFLA_INFO_SLAVE_KIND:
						l.PortKind = ad.String()
					}
				}
				return nil
			})
		case unix.IFLA_XDP:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case unix.IFLA_XDP_ATTACHED:
						if mode := int(ad.Uint8()); mode < len(xdpModes) {
							l.XDPMode = xdpModes[mode]
						}
					case unix.IFLA_XDP_PROG_ID:
						l.XDPProgID = ad.Uint32()
					}
				}
				return nil
			})
		}
	}
	if !l.Elsewhere { // an index of another network namespace means nothing here
		l.Parent = parent
	}
	return l, true, ad.Err()
}

// parseAddr reads an RTM_NEWADDR message: an address with the length of the prefix on its link. ok is false for one that
// cannot be used.
func parseAddr(b []byte) (index int, p netip.Prefix, ok bool, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, p, false, errShort
	}
	flags := uint32(b[2])
	index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfAddrmsg:])
	if err != nil {
		return 0, p, false, err
	}
	var address, local netip.Addr // the former is the other end's on a point-to-point link
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_FLAGS:
			flags = ad.Uint32()
		}
	}
	if err := ad.Err(); err != nil {
		return 0, p, false, err
	}
	a := local
	if !a.IsValid() {
		a = address
	}
	const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	if flags&unusable != 0 && flags&unix.IFA_F_OPTIMISTIC == 0 {
		return index, p, false, nil
	}
	return index, netip.PrefixFrom(a, int(b[1])), a.IsValid() && !a.IsUnspecified() && !a.IsMulticast(), nil
}
