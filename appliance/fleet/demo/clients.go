package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"kdht/appliance/fleet"
)

// clients put items through one random node and get them through another, with the command line program, one after
// the other.
type clients struct {
	wg sync.WaitGroup

	mu             sync.Mutex
	found, missing int           // gets
	failed         int           // puts
	took           time.Duration // of the last get, program start included
	lastError      string
}

// tally is what the clients have done so far.
type tally struct {
	found, missing, failed int
	took                   time.Duration
	lastError              string
}

func startClients(ctx context.Context, f *fleet.Fleet, n int) *clients {
	c := new(clients)
	for i := range n {
		c.wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				c.round(ctx, f, fmt.Sprintf("item %d of client %d", round, i))
			}
		})
	}
	return c
}

// round is one put and one get.
func (c *clients) round(ctx context.Context, f *fleet.Fleet, value string) {
	here, there := f.Nodes[rand.IntN(len(f.Nodes))], f.Nodes[rand.IntN(len(f.Nodes))]
	target, err := f.Run(ctx, here.Host, "put", "--bootstrap", there.Addr4.String(), value)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.count(func() { c.failed++; c.lastError = err.Error() })
		return
	}
	here, there = there, f.Nodes[rand.IntN(len(f.Nodes))]
	start := time.Now()
	got, err := f.Run(ctx, here.Host, "get", "--bootstrap", there.Addr4.String(), strings.TrimSpace(string(target)))
	took := time.Since(start)
	if ctx.Err() != nil {
		return
	}
	c.count(func() {
		if err == nil && string(bytes.TrimSpace(got)) == value {
			c.found++
			c.took = took
			return
		}
		c.missing++
		c.lastError = fmt.Sprintf("get %s: %v", bytes.TrimSpace(target), err)
	})
}

func (c *clients) count(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *clients) tally() (t tally) {
	c.count(func() { t = tally{c.found, c.missing, c.failed, c.took, c.lastError} })
	return t
}

func (c *clients) wait() { c.wg.Wait() }
