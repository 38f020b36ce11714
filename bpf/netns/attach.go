package netns

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

const license = "Dual BSD/GPL"

// AttachPass attaches a native XDP program that passes everything to an interface, for as long as the namespace
// lives.
func AttachPass(ns *NS, ifname string) error {
	const xdpPass = 2
	return attach(ns, ifname, &ebpf.ProgramSpec{
		Name:         "kdht_pass",
		Type:         ebpf.XDP,
		License:      license,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	}, func(prog *ebpf.Program, index int) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: link.XDPDriverMode})
	})
}

// attachPad attaches the program that [End] describes at Pad, for as long as the namespace lives.
func attachPad(ns *NS, ifname string) error {
	const (
		tcxPass = 0
		padding = 512
		small   = 700 // frames up to this size are padded
	)
	return attach(ns, ifname, &ebpf.ProgramSpec{
		Name:    "kdht_pad",
		Type:    ebpf.SchedCLS,
		License: license,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // __sk_buff.len
			asm.JGT.Imm(asm.R2, small, "out"),
			asm.Add.Imm(asm.R2, padding),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(), // where it fails, there is less room
			asm.Mov.Imm(asm.R0, tcxPass).WithSymbol("out"),
			asm.Return(),
		},
	}, func(prog *ebpf.Program, index int) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: prog, Interface: index, Attach: ebpf.AttachTCXEgress})
	})
}

// attach loads a program and attaches it to an interface until the namespace is closed.
func attach(ns *NS, ifname string, spec *ebpf.ProgramSpec, to func(*ebpf.Program, int) (link.Link, error)) error {
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return fmt.Errorf("netns: load %s: %w", spec.Name, err)
	}
	defer prog.Close() // the link holds it
	return ns.Do(func() error {
		dev, err := net.InterfaceByName(ifname)
		if err != nil {
			return fmt.Errorf("netns %s: %w", ns.name, err)
		}
		l, err := to(prog, dev.Index)
		if err != nil {
			return fmt.Errorf("netns %s: attach %s to %s: %w", ns.name, spec.Name, ifname, err)
		}
		ns.OnClose(l.Close)
		return nil
	})
}
