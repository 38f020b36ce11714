package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// End is one end of a veth pair.
type End struct {
	NS    *NS
	Name  string         // of the interface, at most 15 bytes
	MAC   string         // empty: chosen by the kernel
	Addrs []netip.Prefix // addresses with the length of their on-link prefix
	// Pass attaches an XDP program that passes everything. Native XDP_TX and redirects on the other end of a veth
	// pair need one here: they deliver to a NAPI instance that exists only where XDP (or GRO) is on.
	Pass bool
	// Pad appends 512 zero bytes to small frames that leave here; the next IP stack strips them, as it does all Ethernet
	// padding, and so hands the packet on in a buffer with room behind it. NIC drivers receive into buffers of 2 KiB or
	// more, whereas veth copies a packet into one that fits it, in which an XDP program could hardly answer anything
	// longer. It needs Linux 6.6, and does nothing before.
	Pad bool
	// Sum makes packets that leave here carry complete checksums: see [FullChecksums].
	Sum bool
}

// Veth joins two namespaces by a veth pair that is up, without IPv6 duplicate address detection, when it returns.
func Veth(t TB, a, b End) {
	t.Helper()
	if err := MakeVeth(a, b); err != nil {
		t.Fatalf("%v", err)
	}
}

// MakeVeth does what [Veth] does.
func MakeVeth(a, b End) error {
	add := []string{"link", "add", "name", a.Name}
	if a.MAC != "" {
		add = append(add, "address", a.MAC)
	}
	add = append(add, "type", "veth", "peer", "name", b.Name)
	if b.MAC != "" {
		add = append(add, "address", b.MAC)
	}
	add = append(add, "netns", b.NS.name)
	if err := a.NS.IP(add...); err != nil {
		return err
	}
	return errors.Join(a.setUp(), b.setUp())
}

// setUp configures one end. Duplicate address detection would keep addresses unusable for a second or more.
func (e End) setUp() error {
	for _, key := range []string{"accept_dad", "dad_transmits", "router_solicitations"} {
		if err := e.NS.Sysctl("net.ipv6.conf."+e.Name+"."+key, "0"); err != nil {
			return err
		}
	}
	lines := []string{"link set " + e.Name + " up"}
	for _, p := range e.Addrs {
		line := fmt.Sprintf("addr add %s dev %s", p, e.Name)
		if p.Addr().Is6() {
			line += " nodad"
		}
		lines = append(lines, line)
	}
	if err := e.NS.Batch(lines...); err != nil {
		return err
	}
	if e.Sum {
		if err := FullChecksums(e.NS, e.Name); err != nil {
			return err
		}
	}
	if e.Pass {
		if err := AttachPass(e.NS, e.Name); err != nil {
			return err
		}
	}
	if e.Pad {
		if err := attachPad(e.NS, e.Name); err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
	}
	return nil
}
