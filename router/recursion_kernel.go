package router

import "time"

const (
	// kernelBit is set in the first byte of the kernel half's transaction IDs ([bpf.KernelTransaction]), and in none of
	// ours, so that neither takes the other's answers.
	kernelBit = 0x80
	// leastHop is how long a node has at least to answer the kernel half.
	leastHop = 20 * time.Millisecond
)

// KernelTime is how long a recursion may be the kernel half's, whatever becomes of it: half of the time in which the client has its
// answer, so that as much is left for user space.
const KernelTime = recursionTime / 2

// HopPatience returns how long the kernel half's recursion waits for a node before it counts as late: what nearly every answer
// has taken of late, between 20 ms and a second. User space takes over what is late on all paths.
func (n *Node) HopPatience() time.Duration {
	patience := time.Duration(0)
	for f, s := range n.primary {
		if s != nil {
			patience = max(patience, n.rtt[f].slow(leastHop))
		}
	}
	return patience
}
