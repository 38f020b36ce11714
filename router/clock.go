package router

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"kdht/bpf/limit"
)

// clock tells times of this process on the clock that both halves of the node share.
type clock struct {
	epoch time.Time
	begin limit.Time // epoch on that clock
}

func newClock() clock {
	c := clock{epoch: time.Now()}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil { // else what the kernel half has noted means nothing here
		c.begin = limit.Time(now.Nano())
	}
	return c
}

func (c clock) at(now time.Time) limit.Time { return c.begin + limit.Time(now.Sub(c.epoch)) }

// randomSeed returns a key for hashes that nobody can guess.
func randomSeed() uint64 {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	return binary.LittleEndian.Uint64(seed[:])
}
