package link

import "golang.org/x/sys/unix"

// Role is what an interface is to a machine that wants to reach others.
type Role uint8

// The roles.
const (
	// Inner leads to containers, virtual machines or programs of this machine, as docker0 does, or nowhere.
	Inner Role = iota
	// Tunnel leads to others by way of another interface, as wg0 does.
	Tunnel
	// Upper stands on a Port and leads where that does: a VLAN, the bridge or bond that it is part of. So does, as far as is known,
	// what is nothing else.
	Upper
	// Port is what a cable or an antenna belongs to; in a container, what leads out of it.
	Port
)

// inner are the kinds of interface that lead nowhere but by what they stand on.
var inner = map[string]bool{
	"bridge": true, "bond": true, "team": true, "vrf": true, "vlan": true, "macvlan": true, "ipvlan": true, "macsec": true,
	"veth": true, "netkit": true, "dummy": true, "ifb": true, "nlmon": true, "tun": true, "macvtap": true, "ipvtap": true,
}

// Roles gives the roles of all interfaces of a network namespace, in their order.
func Roles(all []Link) []Role {
	roles := make([]Role, len(all))
	told := false // from Linux 5.14 on the kernel says what is hardware
	for _, l := range all {
		told = told || l.Device != ""
	}
	ports := false
	for i, l := range all {
		switch {
		case l.Loopback || !l.carriesIP():
		case l.Device != "", !told && l.Kind == "" && l.Driver != "openvswitch" && !l.tunnel(), l.Kind == "ppp":
			roles[i], ports = Port, true
		case l.tunnel():
			roles[i] = Tunnel
		case !inner[l.Kind]:
			roles[i] = Upper
		}
	}
	if !ports { // a container, or a namespace of a test: what has its other end in another one leads out
		for i, l := range all {
			if l.Elsewhere && !l.Loopback && roles[i] != Tunnel {
				roles[i] = Port
			}
		}
	}
	at := make(map[int]int, len(all)) // by index
	for i, l := range all {
		at[l.Index] = i
	}
	for range all { // each round goes up by one storey at least
		changed := false
		stands := func(upper, lower int) {
			i, ok := at[upper]
			if j, known := at[lower]; ok && known && roles[i] == Inner && roles[j] >= Upper && !all[i].Loopback {
				roles[i], changed = Upper, true
			}
		}
		for _, l := range all {
			stands(l.Index, l.Parent)
			stands(l.Master, l.Index)
		}
		if !changed {
			break
		}
	}
	return roles
}

// carriesIP reports whether the type of an interface is one that the Internet Protocol runs over: not a CAN bus, or a radio that
// only listens.
func (l Link) carriesIP() bool {
	switch l.Type {
	case unix.ARPHRD_ETHER, unix.ARPHRD_INFINIBAND, unix.ARPHRD_PPP, unix.ARPHRD_RAWIP, unix.ARPHRD_NONE:
		return true
	}
	return l.tunnel()
}

// tunnel reports whether an interface packs what it carries into packets for another one.
func (l Link) tunnel() bool {
	switch l.Type {
	case unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT, unix.ARPHRD_IPGRE, unix.ARPHRD_IP6GRE:
		return true
	}
	return l.Device == "" && l.Kind != "ppp" && (l.PointToPoint || virtual[l.Kind] == tunnelReason)
}
