package bpf

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Route says how datagrams for a prefix leave this host. A more specific one comes first.
type Route struct {
	Prefix netip.Prefix
	// Ifindex is the interface; 0: the program cannot send there, which goes for all that has no Route, too.
	Ifindex int
	// MAC is the interface's.
	MAC [6]byte
	// Gateway is the next hop; the zero Addr: the destination is on the link.
	Gateway netip.Addr
	// Source is one of our endpoints: the queries of our own are sent from it.
	Source netip.AddrPort
	// Redirect says that the interface takes frames that came in by others. Without it, only what came in by this interface
	// goes out by it.
	Redirect bool
}

// Neighbour is the link address of a host on a link.
type Neighbour struct {
	Ifindex int
	Addr    netip.Addr // without zone
	MAC     [6]byte
}

// SetRoutes makes routes those that the program sends its own queries by: it does not ask the host's routing table,
// which answers XDP programs only on hosts that forward packets for others (BPF_FIB_LKUP_RET_FWD_DISABLED). Of routes
// with the same prefix the last counts.
func (p *Program) SetRoutes(routes []Route) error {
	want := map[kdhtRouteKey]kdhtRoute{}
	// The IPv4 routes are among the IPv6 ones, as those of a prefix that must not fall to IPv6's default route.
	want[prefixKey(allIPv4)] = kdhtRoute{}
	for _, r := range routes {
		out := kdhtRoute{}
		if r.Ifindex > 0 {
			out.Ifindex, out.Mac, out.Gateway = uint32(r.Ifindex), r.MAC, wireAddr(r.Gateway)
			out.Source, out.Port = wireAddr(r.Source.Addr()), r.Source.Port()>>8|r.Source.Port()<<8
			if r.Redirect {
				out.Redirect = 1
			}
		}
		want[prefixKey(r.Prefix)] = out
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return replaceAll(p.objs.Routes, want, "publish the routes")
}

// SetNeighbours makes neighbours those that the program knows.
func (p *Program) SetNeighbours(neighbours []Neighbour) error {
	want := map[kdhtNeighbourKey]uint64{}
	for _, n := range neighbours {
		want[neighbourKey(n)] = macValue(n.MAC)
	}
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return replaceAll(p.objs.Neighbours, want, "publish the neighbours")
}

// AddNeighbour adds one, or changes its link address.
func (p *Program) AddNeighbour(n Neighbour) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	return classify("add a neighbour", p.objs.Neighbours.Put(neighbourKey(n), macValue(n.MAC)))
}

// RemoveNeighbour removes one. It is no error if it is not there.
func (p *Program) RemoveNeighbour(n Neighbour) error {
	if err := p.lock(); err != nil {
		return err
	}
	defer p.mu.Unlock()
	if err := p.objs.Neighbours.Delete(neighbourKey(n)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return classify("remove a neighbour", err)
	}
	return nil
}

func neighbourKey(n Neighbour) kdhtNeighbourKey {
	return kdhtNeighbourKey{Addr: wireAddr(n.Addr), Ifindex: uint64(n.Ifindex)}
}

func macValue(mac [6]byte) uint64 {
	return binary.LittleEndian.Uint64(append(mac[:], 0, 0))
}
