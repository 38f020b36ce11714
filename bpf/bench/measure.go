package main

import (
	"fmt"
	"runtime"
	"time"
)

// figure is one measurement: a subject under one kind of query.
type figure struct {
	load
	cpu time.Duration // of the node's side, per answer
}

// measure puts a subject under load: first to warm up, then for d.
func (r *rig) measure(k kind, echo bool, d time.Duration) (figure, error) {
	if err := r.pin(); err != nil {
		return figure{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := setCore(0, genCore); err != nil {
		return figure{}, fmt.Errorf("pin generator: %w", err)
	}
	from := endpoint{[6]byte(r.genDev.HardwareAddr), firstSource}
	to := endpoint{[6]byte(r.nodeDev.HardwareAddr), nodeAddr}
	g := newGenerator(r.sock, k, from, to)
	g.echo = echo
	if _, err := g.run(d / 4); err != nil {
		return figure{}, err
	}
	before, err := r.busy()
	if err != nil {
		return figure{}, err
	}
	l, err := g.run(d)
	if err != nil {
		return figure{}, err
	}
	after, err := r.busy()
	if err != nil {
		return figure{}, err
	}
	f := figure{load: l}
	if l.answers > 0 {
		f.cpu = (after - before) / time.Duration(l.answers)
	}
	return f, nil
}
