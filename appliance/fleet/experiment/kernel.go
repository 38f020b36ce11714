package main

import (
	"context"
	"sync"

	"kdht/appliance/fleet"
	"kdht/bpf"
)

// kernelCounts is what the kernel halves of all nodes have done for clients.
type kernelCounts struct {
	replied, late uint64
	hops          [bpf.MaxHops + 1]uint64
}

// recursions adds up the counts of all nodes.
func (e *experiment) recursions(ctx context.Context) (sum kernelCounts, err error) {
	var mu sync.Mutex
	err = e.Each(func(n *fleet.Node) error {
		r, err := n.Status(ctx)
		if err != nil || r.XDP.Recursion == nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		sum.replied += r.XDP.Recursion.Replied
		sum.late += r.XDP.Recursion.Late
		for hops, n := range r.XDP.Recursion.Hops {
			sum.hops[hops] += n
		}
		return nil
	})
	return sum, err
}

// minus is what was added since before.
func (c kernelCounts) minus(before kernelCounts) kernelCounts {
	c.replied -= before.replied
	c.late -= before.late
	for i, n := range before.hops {
		c.hops[i] -= n
	}
	return c
}
