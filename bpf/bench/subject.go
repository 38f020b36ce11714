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

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// subject is something that answers at [nodeAddr].
type subject struct {
	name  string
	echo  bool // sends queries back as they are
	start func(*rig) (stop func() error, err error)
}

//go:embed libtorrent_node.py
var libtorrentScript string

func subjects() []subject {
	return []subject{
		{name: "reflector", echo: true, start: (*rig).reflector},
		{name: "kdht (kernel)", start: func(r *rig) (func() error, error) { return r.kdht("native") }},
		{name: "kdht (user space)", start: func(r *rig) (func() error, error) { return r.kdht("off") }},
		{name: "libtorrent", start: (*rig).libtorrent},
	}
}

func (r *rig) reflector() (func() error, error) {
	var l link.Link
	err := r.node.Do(func() (err error) {
		l, err = link.AttachXDP(link.XDPOptions{
			Program: r.progs.Reflect, Interface: r.nodeDev.Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach the reflector: %w", err)
	}
	return l.Close, nil
}

// kdht starts the program as its users do, with a table that the swarm fills.
func (r *rig) kdht(xdp string) (func() error, error) {
	dir, err := os.MkdirTemp("", "kdht-bench-")
	if err != nil {
		return nil, err
	}
	stop, err := r.spawn(exec.Command(r.binary, "serve",
		"--state", filepath.Join(dir, "state"), "--listen", nodeAddr.String(), "--http", "127.0.0.1:8080",
		"--bootstrap", r.bootstrap(), "--network", "public", "--interface", nodeIf, "--xdp", xdp))
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
