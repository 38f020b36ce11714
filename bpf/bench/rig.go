package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"kdht/bpf/netns"
)

// The rig: the node's namespace on one core and the generator's on the other,
// joined by a veth pair. Each end's receive work runs in a kernel thread
// (threaded NAPI) on its side's core, so that what the node's core does is
// what the node costs.
const (
	nodeCore = 0
	genCore  = 1

	// 15 bytes of a thread's name must hold "napi/" and these.
	nodeIf = "kdhtn"
	genIf  = "kdhtg"
)

var (
	nodeAddr = netip.MustParseAddrPort("198.19.0.1:6881")
	genAddr  = netip.MustParseAddrPort("198.19.0.2:39936") // 0x9c00: see IS_GENERATOR in bench.bpf.c
	// firstSource and firstNeighbor begin the addresses of queries and of the
	// nodes that fill routing tables. All are reached through genAddr.
	firstSource   = netip.MustParseAddrPort("198.18.128.0:39936")
	firstNeighbor = netip.MustParseAddr("198.18.0.1")
	routed        = netip.MustParsePrefix("198.18.0.0/16")
)

type rig struct {
	node, gen       *netns.NS
	nodeDev, genDev *net.Interface
	progs           rigObjects
	collect         link.Link
	sock            *xsk
	swarm           *swarm
	binary          string      // the kdht program
	process         *os.Process // of the subject, nil when it has none
}

func newRig() (r *rig, err error) {
	r = &rig{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := loadRigObjects(&r.progs, nil); err != nil {
		return r, fmt.Errorf("load the rig's programs: %w", err)
	}
	if r.node, err = netns.Make("node"); err != nil {
		return r, err
	}
	if r.gen, err = netns.Make("gen"); err != nil {
		return r, err
	}
	prefix := func(a netip.AddrPort) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a.Addr(), 24)} }
	if err := netns.MakeVeth(
		netns.End{NS: r.node, Name: nodeIf, MAC: "02:00:00:00:00:01", Addrs: prefix(nodeAddr)},
		netns.End{NS: r.gen, Name: genIf, MAC: "02:00:00:00:00:02", Addrs: prefix(genAddr)},
	); err != nil {
		return r, err
	}
	if err := r.node.Batch(
		"neigh replace "+genAddr.Addr().String()+" lladdr 02:00:00:00:00:02 nud permanent dev "+nodeIf,
		"route add "+routed.String()+" via "+genAddr.Addr().String()+" src "+nodeAddr.Addr().String(),
	); err != nil {
		return r, err
	}
	// The neighbours' addresses are all the generator's own.
	if err := r.gen.Batch(
		"neigh replace "+nodeAddr.Addr().String()+" lladdr 02:00:00:00:00:01 nud permanent dev "+genIf,
		"route add local "+routed.String()+" dev lo",
	); err != nil {
		return r, err
	}
	if r.nodeDev, err = threaded(r.node, nodeIf); err != nil {
		return r, err
	}
	if r.genDev, err = threaded(r.gen, genIf); err != nil {
		return r, err
	}
	err = r.gen.Do(func() error {
		r.collect, err = link.AttachXDP(link.XDPOptions{
			Program: r.progs.Collect, Interface: r.genDev.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("attach to %s: %w", genIf, err)
		}
		if r.sock, err = openXSK(r.genDev.Index); err != nil {
			return err
		}
		return r.progs.Sockets.Put(uint32(0), uint32(r.sock.fd))
	})
	return r, err
}

// threaded gives an interface NAPI that stays, whatever program is attached
// (GRO on), polled by kernel threads.
func threaded(ns *netns.NS, name string) (dev *net.Interface, err error) {
	if err := netns.ReceiveOffload(ns, name); err != nil {
		return nil, err
	}
	err = ns.Do(func() error {
		if dev, err = net.InterfaceByName(name); err != nil {
			return err
		}
		// /sys shows the namespace that it was mounted in, so this thread
		// gets one of its own.
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("private mounts: %w", err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount sysfs: %w", err)
		}
		return os.WriteFile(filepath.Join("/sys/class/net", name, "threaded"), []byte("1"), 0)
	})
	return dev, err
}

// pin puts the receive threads of both sides on their cores. They are made
// anew when a program is attached or detached.
func (r *rig) pin() error {
	for name, core := range map[string]int{nodeIf: nodeCore, genIf: genCore} {
		pids, err := threadsNamed("napi/" + name)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return fmt.Errorf("no receive thread of %s", name)
		}
		for _, pid := range pids {
			if err := setCore(pid, core); err != nil {
				return fmt.Errorf("pin receive thread of %s: %w", name, err)
			}
		}
	}
	return nil
}

// setCore binds a thread (0: the calling one) to a core.
func setCore(tid, core int) error {
	var set unix.CPUSet
	set.Set(core)
	return unix.SchedSetaffinity(tid, &set)
}

// threadsNamed lists processes, kernel threads among them, whose name begins with prefix.
func threadsNamed(prefix string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(comm), prefix) {
			continue // the process may have ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func (r *rig) close() error {
	var errs []error
	if r.swarm != nil {
		errs = append(errs, r.swarm.close())
	}
	if r.sock != nil {
		errs = append(errs, r.sock.close())
	}
	if r.collect != nil {
		errs = append(errs, r.collect.Close())
	}
	errs = append(errs, r.progs.Close())
	for _, ns := range []*netns.NS{r.node, r.gen} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}
