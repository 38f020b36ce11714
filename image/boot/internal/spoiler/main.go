// Command spoiler is a program of a bad update, for the tests of updates; no image that is shipped has it. The file /perm/spoil says,
// one line for each start of the machine, what it does: crash, hang, port (takes the port of the DHT), xdp (takes the hook of
// every network interface). With the last two, it then runs the command that its arguments are.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

func main() {
	way, err := next()
	if err == nil {
		err = spoil(way, os.Args[1:])
	}
	if err != nil {
		say(err.Error())
		os.Exit(1)
	}
}

// next takes a line from the list, and the same again until the machine restarts.
func next() (way string, err error) {
	const list, taken = "/perm/spoil", "/tmp/spoil"
	if b, err := os.ReadFile(taken); err == nil {
		return string(b), nil
	}
	f, err := os.OpenFile(list, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	way, rest, _ := strings.Cut(string(b), "\n")
	_, err = f.WriteAt([]byte(rest), 0)
	return way, errors.Join(err, f.Truncate(int64(len(rest))), f.Sync(), os.WriteFile(taken, []byte(way), 0o600))
}

func spoil(what string, command []string) error {
	say("spoiler: " + what)
	switch what {
	case "crash":
		return errors.New("spoiler: as it was told")
	case "hang":
		for {
			time.Sleep(time.Hour) // an empty select would be a crash: the runtime knows a deadlock
		}
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
