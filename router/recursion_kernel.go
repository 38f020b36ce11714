package router

import "time"

const (
	// kernelBit is set in the first byte of the kernel half's transaction IDs ([bpf.KernelTransaction]), and in none of
	// ours, so that neither takes the other's answers.
	kernelBit = 0x80
	// leastHop is how long a node has at least to answer the kernel half.
	leastHop = 20 * time.Millisecond
)

// HopPatience returns how long the kernel half's recursion waits for a node before user space takes over: what
// nearly every answer has taken of late, between 20 ms and a second.
func (n *Node) HopPatience() time.Duration {
	patience := time.Duration(0)
	for f, s := range n.primary {
		if s != nil {
			patience = max(patience, n.rtt[f].slow(leastHop))
		}
	}
	return patience
}
