package link

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Link is a network interface at one moment.
type Link struct {
	Index int
	Name  string
	// Generation tells interfaces apart that had the same index, and is new for all of them after notifications were
	// lost: what was known of an interface with another generation is no longer sure.
	Generation uint64

	Kind     string // of a virtual interface, such as "veth" or "bridge" (IFLA_INFO_KIND); empty for hardware
	PortKind string // kind of the master that it is a port of, such as "bond" (IFLA_INFO_SLAVE_KIND)
	Driver   string // name of the driver as ethtool has it; empty if there is none
	// Device is the hardware that it belongs to, such as "0000:00:1f.6" or "virtio2" (IFLA_PARENT_DEV_NAME); empty for a virtual
	// interface, and for all before Linux 5.14.
	Device string
	Master int // index of the master, 0 if there is none
	Parent int // index of the interface that this one is on top of, as a VLAN is, 0 if there is none here
	// Elsewhere says that what it is on top of, or its other end, is in another network namespace.
	Elsewhere bool
	Type      uint16 // ARPHRD_*
	MAC       [6]byte
	MTU       int // bytes
	Up        bool
	Carrier   bool
	Loopback  bool
	// Multicast says that it carries multicast, PointToPoint that there is but one other end, as with most tunnels.
	Multicast, PointToPoint bool
	// StripsTags says that the driver takes VLAN tags off frames before an XDP program in native mode sees them
	// (rx-vlan-offload), so that it cannot put them on again.
	StripsTags bool
	XDPMode    string // mode of the XDP program attached by whomever: "native", "generic", "offload", "several", or empty
	XDPProgID  uint32 // its ID, 0 if there is none

	// Addrs are the usable unicast addresses, sorted: not those that duplicate address detection has not passed.
	Addrs []netip.Addr
	// Prefixes are Addrs with the length of the prefix that is on this link, not masked.
	Prefixes []netip.Prefix
}

// Equal reports whether two states are the same.
func (l Link) Equal(o Link) bool {
	return slices.Equal(l.Addrs, o.Addrs) && slices.Equal(l.Prefixes, o.Prefixes) && l.sameButAddrs(o)
}

// SameDevice reports whether two states are of the same interface and differ at most in name, addresses and the XDP
// program attached to it.
func (l Link) SameDevice(o Link) bool {
	l.Name, l.XDPMode, l.XDPProgID = o.Name, o.XDPMode, o.XDPProgID
	return l.sameButAddrs(o)
}

func (l Link) sameButAddrs(o Link) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Generation == o.Generation && l.Kind == o.Kind &&
		l.PortKind == o.PortKind && l.Driver == o.Driver && l.Device == o.Device && l.Master == o.Master && l.Parent == o.Parent && l.Elsewhere == o.Elsewhere && l.StripsTags == o.StripsTags && l.Type == o.Type && l.MAC == o.MAC &&
		l.MTU == o.MTU && l.Up == o.Up && l.Carrier == o.Carrier && l.Loopback == o.Loopback &&
		l.Multicast == o.Multicast && l.PointToPoint == o.PointToPoint &&
		l.XDPMode == o.XDPMode && l.XDPProgID == o.XDPProgID
}

const tunnelReason = "it is a tunnel"

// virtual are the kinds of interface that carry no traffic of their own, or only such that passes another interface
// first, with the reason why XDP has no business there unless somebody says so.
var virtual = map[string]string{
	"bridge":      "its ports see the traffic first",
	"openvswitch": "its ports see the traffic first",
	"vlan":        "its parent sees the traffic first",
	"ipvlan":      "its parent sees the traffic first",
	"macvtap":     "its traffic belongs to a virtual machine",
	"ipvtap":      "its traffic belongs to a virtual machine",
	"tun":         "its traffic belongs to another program",
	"dummy":       "it has no traffic",
	"ifb":         "it has no traffic of its own",
	"nlmon":       "it has no traffic of its own",
	"vxlan":       tunnelReason,
	"geneve":      tunnelReason,
	"gretap":      tunnelReason,
	"ip6gretap":   tunnelReason,
	"erspan":      tunnelReason,
	"ip6erspan":   tunnelReason,
	"bareudp":     tunnelReason,
	"hsr":         "its ports see the traffic first",
	"dsa":         "its conduit sees the traffic first",
}

// Unsuitable returns why an interface is none of those that the kernel half is attached to by itself, or "" if it is
// one: up, Ethernet, with a MAC address of its own, and not subordinate to another.
func (l Link) Unsuitable() string {
	switch {
	case l.Loopback:
		return "it is the loopback interface"
	case l.Type != unix.ARPHRD_ETHER:
		return "it is not Ethernet"
	case l.MAC == [6]byte{}:
		return "it has no MAC address"
	case virtual[l.Kind] != "":
		return "kind " + l.Kind + ": " + virtual[l.Kind]
	case l.Kind == "" && l.Driver == "openvswitch":
		return "kind openvswitch: " + virtual["openvswitch"]
	case l.Master != 0 && l.PortKind != "vrf":
		if l.PortKind == "" {
			return "it is a port of another interface"
		}
		return "it is a port of a " + l.PortKind
	case !l.Up:
		return "it is down"
	}
	return ""
}
