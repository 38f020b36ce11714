package main

import (
	"fmt"
	"runtime"
	"time"
)

// warmUp is how long the load is on before a slice of time counts.
const warmUp = 20 * time.Millisecond

// meter puts what answers at [nodeAddr] under one kind of load.
type meter struct {
	rig *rig
	gen *generator
}

func (r *rig) newMeter(k kind) *meter {
	from := endpoint{[6]byte(r.genDev.HardwareAddr), firstSource}
	to := endpoint{[6]byte(r.nodeDev.HardwareAddr), nodeAddr}
	return &meter{r, newGenerator(r.sock, k, from, to)}
}

// measure keeps the load on for d. With reflector, answers are the queries themselves, and no process has a part in them.
func (m *meter) measure(reflector bool, d time.Duration) (figure, error) {
	if err := m.rig.pin(); err != nil {
		return figure{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := setCore(0, genCore); err != nil {
		return figure{}, fmt.Errorf("pin generator: %w", err)
	}
	m.gen.echo = reflector
	if _, err := m.gen.run(warmUp); err != nil {
		return figure{}, err
	}
	before, err := m.rig.busy(!reflector)
	if err != nil {
		return figure{}, err
	}
	l, err := m.gen.run(d)
	if err != nil {
		return figure{}, err
	}
	after, err := m.rig.busy(!reflector)
	if err != nil {
		return figure{}, err
	}
	return figure{load: l, cpu: after - before}, nil
}
