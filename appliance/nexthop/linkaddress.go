package nexthop

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// askTime bounds how long the kernel may take to say something about one address.
const askTime = time.Second

// LinkAddress gives the link address of a host that is on a link of this one, as the kernel knows it of whoever has a connection with it; false of all
// others, and where it cannot be told. The zone of a link-local address names the link.
func LinkAddress(a netip.Addr) (mac [6]byte, ok bool) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return mac, false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTime)); err != nil {
		return mac, false
	}
	a = a.Unmap()
	ifindex := 0
	if a.IsLinkLocalUnicast() && a.Is6() {
		ifindex = linkOf(a.Zone())
	} else {
		ifindex = linkTo(c, a)
	}
	if ifindex == 0 {
		return mac, false
	}
	return neighbourAt(c, a, ifindex)
}

// linkOf is the interface that a zone names; 0: none.
func linkOf(zone string) int {
	if i, err := net.InterfaceByName(zone); err == nil {
		return i.Index
	}
	i, _ := strconv.Atoi(zone) // 0 of what is no number
	return i
}

// linkTo is the interface on whose link an address is; 0: on none.
func linkTo(c *netlink.Conn, a netip.Addr) int {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1] = familyOf(a), byte(a.BitLen())
	for _, m := range one(c, unix.RTM_GETROUTE, body, unix.RTA_DST, a) {
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[7] != unix.RTN_UNICAST {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofRtMsg:])
		if err != nil {
			return 0
		}
		ifindex := 0
		for ad.Next() {
			switch ad.Type() {
			case unix.RTA_OIF:
				ifindex = int(ad.Uint32())
			case unix.RTA_GATEWAY, unix.RTA_VIA:
				return 0 // another host's link address is what it is reached by
			}
		}
		return ifindex
	}
	return 0
}

// neighbourAt is the link address of an address at an interface.
func neighbourAt(c *netlink.Conn, a netip.Addr, ifindex int) (mac [6]byte, ok bool) {
	body := make([]byte, unix.SizeofNdMsg)
	body[0] = familyOf(a)
	binary.NativeEndian.PutUint32(body[4:], uint32(ifindex)) //nolint:gosec // it came as one
	for _, m := range one(c, unix.RTM_GETNEIGH, body, unix.NDA_DST, a) {
		if m.Header.Type != unix.RTM_NEWNEIGH {
			continue
		}
		if n, valid, ok, err := parseNeighbour(m.Data); err == nil && ok && valid {
			return n.MAC, true
		}
	}
	return mac, false
}

// one asks the kernel about one address, in an attribute behind the body of the request; nothing if it knows nothing.
func one(c *netlink.Conn, kind netlink.HeaderType, body []byte, attribute uint16, a netip.Addr) []netlink.Message {
	e := netlink.NewAttributeEncoder()
	e.Bytes(attribute, a.AsSlice())
	attributes, err := e.Encode()
	if err != nil {
		return nil
	}
	msgs, err := c.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: append(body, attributes...)})
	if err != nil {
		return nil
	}
	return msgs
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
