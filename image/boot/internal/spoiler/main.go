// Command spoiler is a program of a bad update, for the tests of updates; no image that is shipped has it. Its first
// argument says what it does: crash, hang, panic (of the kernel), port (takes the port of the DHT), xdp (takes the hook of
// every network interface). With the last two, the rest is a command that it runs afterwards.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

func main() {
	if err := spoil(os.Args[1], os.Args[2:]); err != nil {
		say(err.Error())
		os.Exit(1)
	}
}

func spoil(what string, command []string) error {
	say("spoiler: " + what)
	switch what {
	case "crash":
		return errors.New("spoiler: as it was told")
	case "hang":
		select {}
	case "panic":
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "port":
		for _, network := range []string{"udp4", "udp6"} {
			conn, err := net.ListenPacket(network, ":6881")
			if err != nil {
				return err
			}
			defer conn.Close()
		}
	case "xdp":
		links, err := takeHooks()
		if err != nil {
			return err
		}
		defer runtime.KeepAlive(links)
	}
	return exec.Command(command[0], command[1:]...).Run()
}

// takeHooks attaches a program that does nothing everywhere.
func takeHooks() (links []link.Link, err error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return nil, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range interfaces {
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: i.Index})
		if err != nil { // not every kind has a hook
			say(fmt.Sprintf("spoiler: %s: %v", i.Name, err))
			continue
		}
		links = append(links, l)
	}
	return links, nil
}

// say writes to the console.
func say(line string) {
	if k, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		_, _ = k.WriteString("<4>kdht: " + line + "\n")
		_ = k.Close()
	}
}
