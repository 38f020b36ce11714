package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
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
	if e.Pass {
		return AttachPass(e.NS, e.Name)
	}
	return nil
}

// AttachPass attaches a native XDP program that passes everything to an interface, for as long as the namespace
// lives.
func AttachPass(ns *NS, ifname string) error {
	const xdpPass = 2
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "kdht_pass",
		Type:         ebpf.XDP,
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("netns: load pass program: %w", err)
	}
	defer prog.Close() // the link holds it
	return ns.Do(func() error {
		dev, err := net.InterfaceByName(ifname)
		if err != nil {
			return fmt.Errorf("netns %s: %w", ns.name, err)
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("netns %s: attach pass program to %s: %w", ns.name, ifname, err)
		}
		ns.OnClose(l.Close)
		return nil
	})
}
