package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"kdht/bpf/netns"
)

// MaxHosts is the number of hosts that a network can have.
const MaxHosts = 511

// Network is a set of hosts joined by one routing namespace, the hub. Routing, rather than one broadcast domain,
// keeps the neighbour tables small: the kernel's bound on them (net.ipv4.neigh.default.gc_thresh3, 1,024 by default)
// holds for all namespaces together, and hosts that all talk to each other would need an entry per pair.
type Network struct {
	hub *netns.NS

	mu     sync.Mutex
	hosts  []*Host
	wire   *wire // nil: none yet
	direct bool  // nothing goes by the wire
}

// Host is a namespace with one interface, eth0.
type Host struct {
	NS *netns.NS
	// Addresses: 198.18.N.1 of the benchmarking range (RFC 2544) and 2001:db8:0:N::1 of the documentation range
	// (RFC 3849), for the N-th host. Each host has an IPv4 /24 and an IPv6 /64 of its own, because DHT nodes accept
	// few others from a prefix in which they know one already.
	IPv4, IPv6 netip.Addr

	gateway4, gateway6 netip.Addr
}

// NewNetwork makes a network without hosts; the caller closes it.
func NewNetwork() (*Network, error) {
	hub, err := netns.Make("hub")
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := hub.Sysctl(key, "1"); err != nil {
			return nil, errors.Join(err, hub.Close())
		}
	}
	return &Network{hub: hub, direct: true}, nil
}

// AddHost adds a host that reaches every other one. Its namespace's name ends in label.
func (n *Network) AddHost(label string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.hosts) + 1
	if number > MaxHosts {
		return nil, fmt.Errorf("fleet: more than %d hosts", MaxHosts)
	}
	ns, err := netns.Make(label)
	if err != nil {
		return nil, err
	}
	net4 := [4]byte{198, 18 + byte(number>>8), byte(number), 0}
	net6 := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 6: byte(number >> 8), 7: byte(number)}
	at := func(last byte) (netip.Addr, netip.Addr) {
		a4, a6 := net4, net6
		a4[3], a6[15] = last, last
		return netip.AddrFrom4(a4), netip.AddrFrom16(a6)
	}
	h := &Host{NS: ns}
	h.IPv4, h.IPv6 = at(1)
	h.gateway4, h.gateway6 = at(254)
	err = netns.MakeVeth(
		netns.End{NS: ns, Name: "eth0", Pad: true, Addrs: []netip.Prefix{netip.PrefixFrom(h.IPv4, 24), netip.PrefixFrom(h.IPv6, 64)}},
		netns.End{NS: n.hub, Name: fmt.Sprintf("host%d", number), Pass: true,
			Addrs: []netip.Prefix{netip.PrefixFrom(h.gateway4, 24), netip.PrefixFrom(h.gateway6, 64)}})
	if err == nil {
		err = ns.Batch("route add default via "+h.gateway4.String(), "route add default via "+h.gateway6.String())
	}
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// FullChecksums makes what the host sends carry complete checksums, as what comes from another machine does. Between
// namespaces of one machine they are left out otherwise.
func (h *Host) FullChecksums() error { return netns.FullChecksums(h.NS, "eth0") }

// Isolate leaves the host routes to this network alone, in place of the default routes: so it cannot tell by which of its
// addresses the rest of the world would see it.
func (h *Host) Isolate() error {
	return h.NS.Batch("route del default via "+h.gateway4.String(), "route del default via "+h.gateway6.String(),
		"route add 198.18.0.0/15 via "+h.gateway4.String(), "route add 2001:db8::/32 via "+h.gateway6.String())
}

// DialContext connects from the hub: it is how the process that made the network reaches TCP services in it.
func (n *Network) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.hub.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Close removes all hosts, and kills what runs on them.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.NS.Close())
	}
	if n.wire != nil {
		errs = append(errs, n.wire.close())
		n.wire = nil
	}
	return errors.Join(append(errs, n.hub.Close())...)
}
