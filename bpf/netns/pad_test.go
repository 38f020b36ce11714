package netns_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// TestPad sends a datagram through a router to a host whose XDP program drops packets behind which there is no room
// for 300 bytes.
func TestPad(t *testing.T) {
	testenv.NeedXDP(t)
	supported := hasTCX(t)
	for _, padded := range []bool{true, false} {
		from, hub, to := netns.New(t, "from"), netns.New(t, "hub"), netns.New(t, "to")
		must(t, hub.Sysctl("net.ipv4.ip_forward", "1"))
		netns.Veth(t,
			netns.End{NS: from, Name: "eth0", Addrs: prefixes("198.18.1.1/24"), Pad: padded},
			netns.End{NS: hub, Name: "from", Addrs: prefixes("198.18.1.254/24"), Pass: true})
		netns.Veth(t,
			netns.End{NS: to, Name: "eth0", Addrs: prefixes("198.18.2.1/24")},
			netns.End{NS: hub, Name: "to", Addrs: prefixes("198.18.2.254/24"), Pass: true})
		must(t, from.IP("route", "add", "default", "via", "198.18.1.254"))
		must(t, to.IP("route", "add", "default", "via", "198.18.2.254"))
		attachNeedy(t, to)

		var server, client net.PacketConn
		must(t, to.Do(func() (err error) { server, err = net.ListenPacket("udp", "198.18.2.1:7"); return err }))
		defer server.Close()
		must(t, from.Do(func() (err error) { client, err = net.ListenPacket("udp", "198.18.1.1:0"); return err }))
		defer client.Close()
		_, err := client.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.18.2.1:7")))
		must(t, err)
		wait := 5 * time.Second
		roomy := padded && supported
		if !roomy {
			wait = 200 * time.Millisecond // nothing is to arrive
		}
		must(t, server.SetReadDeadline(time.Now().Add(wait)))
		n, _, err := server.ReadFrom(make([]byte, 1500))
		if arrived := err == nil && n == 100; arrived != roomy {
			t.Errorf("padded %v, supported %v: received %d bytes, %v", padded, supported, n, err)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
}

// hasTCX reports whether the kernel can attach what pads (Linux 6.6).
func hasTCX(t *testing.T) bool {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(t, err)
	defer prog.Close()
	ns := netns.New(t, "tcx")
	err = ns.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: 1, Attach: ebpf.AttachTCXEgress}) // lo
		if err == nil {
			err = l.Close()
		}
		return err
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false
	}
	must(t, err)
	return true
}

// attachNeedy attaches an XDP program to eth0 that grows every packet by 300 bytes and shrinks it again, and drops what
// cannot be grown.
func attachNeedy(t *testing.T, ns *netns.NS) {
	t.Helper()
	const room, xdpDrop, xdpPass = 300, 1, 2
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			// ARP is not padded everywhere: only frames of more than 100 bytes are tried.
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
			asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
			asm.Add.Imm(asm.R2, 100),
			asm.JGT.Reg(asm.R2, asm.R3, "pass"),
			asm.Mov.Imm(asm.R2, room),
			asm.FnXdpAdjustTail.Call(),
			asm.JEq.Imm(asm.R0, 0, "shrink"),
			asm.Mov.Imm(asm.R0, xdpDrop),
			asm.Return(),
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("shrink"),
			asm.Mov.Imm(asm.R2, -room),
			asm.FnXdpAdjustTail.Call(),
			asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
			asm.Return(),
		},
	})
	must(t, err)
	t.Cleanup(func() { _ = prog.Close() })
	must(t, ns.Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return err
		}
		ns.OnClose(l.Close)
		return nil
	}))
}
