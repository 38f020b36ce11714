package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	interfaces "kdht/appliance/link"
)

// subject is something that answers at [nodeAddr].
type subject struct {
	name  string
	start func(*rig) (*turns, error)
}

// turns lets a running subject and the reflector take turns.
type turns struct {
	subject, reflector func() error
	stop               func() error
}

//go:embed libtorrent_node.py
var libtorrentScript string

func subjects() []subject {
	return []subject{
		{name: "kdht (kernel)", start: (*rig).kernel},
		{name: "kdht (user space)", start: func(r *rig) (*turns, error) { return r.besides(r.kdht("off")) }},
		{name: "libtorrent", start: func(r *rig) (*turns, error) { return r.besides(r.libtorrent()) }},
	}
}

// kernel starts the node with its kernel half. The reflector takes its turns in the same link, so that nothing but the
// program changes.
func (r *rig) kernel() (*turns, error) {
	stop, err := r.kdht("native")
	if stop == nil {
		return nil, err
	}
	t := &turns{stop: stop}
	if err != nil {
		return t, err
	}
	l, prog, err := r.linkOf()
	if err != nil {
		return t, err
	}
	t.subject = func() error { return l.Update(prog) }
	t.reflector = func() error { return l.Update(r.progs.Reflect) }
	t.stop = func() error { return errors.Join(t.subject(), l.Close(), prog.Close(), stop()) }
	return t, nil
}

// linkOf finds the XDP link of the node's interface, and its program.
func (r *rig) linkOf() (link.Link, *ebpf.Program, error) {
	// An interface's number is another's in another namespace; the number of a program is not.
	var id uint32
	err := r.node.Do(func() error {
		all, err := interfaces.List()
		for _, l := range all {
			if l.Index == r.nodeDev.Index {
				id = l.XDPProgID
			}
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || id == 0 || uint32(info.Program) != id || info.XDP() == nil {
			continue
		}
		prog, err := ebpf.NewProgramFromID(info.Program)
		if err != nil {
			return nil, nil, err
		}
		return it.Take(), prog, nil
	}
	return nil, nil, errors.Join(errors.New("the node has no program at "+nodeIf), it.Err())
}

// besides lets the reflector take its turns before a process that answers from a socket.
func (r *rig) besides(stop func() error, err error) (*turns, error) {
	if stop == nil {
		return nil, err
	}
	var l link.Link
	t := &turns{
		reflector: func() error {
			if l != nil {
				return nil
			}
			return r.node.Do(func() (err error) {
				l, err = link.AttachXDP(link.XDPOptions{
					Program: r.progs.Reflect, Interface: r.nodeDev.Index, Flags: link.XDPDriverMode})
				return err
			})
		},
		subject: func() error {
			if l == nil {
				return nil
			}
			err := l.Close()
			l = nil
			return err
		},
	}
	t.stop = func() error { return errors.Join(t.subject(), stop()) }
	return t, err
}

// kdht starts the program as its users do, with a table that the swarm fills.
func (r *rig) kdht(xdp string) (func() error, error) {
	dir, err := os.MkdirTemp("", "kdht-bench-")
	if err != nil {
		return nil, err
	}
	args := []string{"serve",
		"--state", filepath.Join(dir, "state"), "--listen", nodeAddr.String(), "--http", "127.0.0.1:8080",
		"--bootstrap", r.bootstrap(), "--network", "public", "--interface", nodeIf, "--xdp", xdp}
	for _, s := range cli.Set {
		args = append(args, "--set", s)
	}
	stop, err := r.spawn(exec.Command(r.binary, args...))
	return func() error { return errors.Join(stop(), os.RemoveAll(dir)) }, err
}

func (r *rig) libtorrent() (func() error, error) {
	return r.spawn(exec.Command("/usr/bin/python3", "-c", libtorrentScript, nodeAddr.String(), r.bootstrap()))
}

// bootstrap is the address of a node of the swarm.
func (r *rig) bootstrap() string { return r.swarm.nodes[0].addr.String() }

// spawn starts a node on the node's core and waits until its table is full.
func (r *rig) spawn(cmd *exec.Cmd) (stop func() error, err error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err = r.node.Do(func() error {
		// The child inherits the core from this thread.
		if err := setCore(0, nodeCore); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return func() error { return nil }, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	r.process = cmd.Process
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // its output says more than its exit code
	}()
	stop = func() error {
		r.process = nil
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			return err
		}
		select {
		case <-exited:
			return nil
		case <-time.After(10 * time.Second):
			return errors.Join(fmt.Errorf("%s did not stop", cmd.Path), cmd.Process.Kill())
		}
	}
	if err := r.settle(exited); err != nil {
		return stop, fmt.Errorf("%s: %w\n%s", cmd.Path, err, output.Bytes())
	}
	return stop, nil
}
