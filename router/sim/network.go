package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"time"

	"kdht/router"
)

const (
	// bucketSize is k: contacts per bucket or sub-bucket, per reply, and copies of an item (BEP 5, BEP 44).
	bucketSize = 8
	// port is the UDP port of every node.
	port = 6881
	// MaxNodes is how many addresses there are in 10.0.0.0/8.
	MaxNodes = 1 << 24

	minRoundTrip = 20 * time.Millisecond
	maxRoundTrip = 200 * time.Millisecond
)

// network is the nodes of a simulated network, in the order of their IDs. It is immutable.
type network struct {
	seed uint64
	ids  []router.ID
	keys []uint64 // the first 64 bits of each ID, all different
}

// newNetwork makes a network of n nodes, at most [MaxNodes], with random IDs.
func newNetwork(n int, seed uint64) *network {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	net := &network{seed: seed, ids: make([]router.ID, n), keys: make([]uint64, n)}
	for i := range net.keys {
		net.keys[i] = rng.Uint64()
	}
	for slices.Sort(net.keys); ; slices.Sort(net.keys) {
		again := false
		for i := 1; i < n; i++ {
			if net.keys[i] == net.keys[i-1] {
				net.keys[i-1] = rng.Uint64()
				again = true
			}
		}
		if !again {
			break
		}
	}
	for i := range net.ids {
		id := &net.ids[i]
		binary.BigEndian.PutUint64(id[:], net.keys[i])
		binary.BigEndian.PutUint64(id[8:], rng.Uint64())
		binary.BigEndian.PutUint32(id[16:], rng.Uint32())
	}
	return net
}

// contact returns what others know of a node.
func (n *network) contact(i int) router.Contact {
	return router.Contact{ID: n.ids[i], Addr: addr(i)}
}

// addr returns the address of a node.
func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), port)
}

// nodeAt returns the node at an address that addr has returned.
func nodeAt(a netip.AddrPort) int {
	b := a.Addr().As4()
	return int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

// alive reports whether a node is among those that did not die, when a share of all did.
func (n *network) alive(i int, dead float64) bool {
	const bits = 53
	draw := rand.NewPCG(n.seed, uint64(i)).Uint64() >> (64 - bits)
	return float64(draw)/(1<<bits) >= dead
}

// roundTrip returns how long a query from a to b and its answer take.
func (n *network) roundTrip(a, b int) time.Duration {
	draw := rand.NewPCG(n.seed+uint64(min(a, b)), uint64(max(a, b))).Uint64()
	return minRoundTrip + time.Duration(draw%uint64(maxRoundTrip-minRoundTrip))
}

// split returns the first of the nodes lo to hi, which agree in all bits before the given one, that has it set.
func (n *network) split(lo, hi, bit int) int {
	return lo + sort.Search(hi-lo, func(i int) bool { return n.keys[lo+i]>>(63-bit)&1 == 1 })
}

// appendTable appends the contacts of a node's table, by rising length of the prefix shared with it. bits is b: a length
// of prefix has 2^(b-1) sub-buckets, by the next b-1 bits.
func (n *network) appendTable(dst []int, node, bits int) []int {
	rng := rand.New(rand.NewPCG(n.seed^uint64(bits), uint64(node)))
	lo, hi := 0, len(n.keys)
	for level := 0; hi-lo > 1; level++ {
		mid := n.split(lo, hi, level)
		from, to := lo, mid
		if node < mid {
			from, to, hi = mid, hi, mid
		} else {
			lo = mid
		}
		dst = n.appendBucket(dst, rng, from, to, level+1, bits-1)
	}
	return dst
}

// appendBucket appends the contacts that a node has of the nodes lo to hi, which agree in all bits before the given one:
// 8 for each value of the next few bits.
func (n *network) appendBucket(dst []int, rng *rand.Rand, lo, hi, bit, few int) []int {
	switch {
	case hi-lo <= bucketSize:
		for i := lo; i < hi; i++ {
			dst = append(dst, i)
		}
		return dst
	case few > 0:
		mid := n.split(lo, hi, bit)
		dst = n.appendBucket(dst, rng, lo, mid, bit+1, few-1)
		return n.appendBucket(dst, rng, mid, hi, bit+1, few-1)
	}
	// Floyd's sample of 8.
	first := len(dst)
	for j := hi - lo - bucketSize; j < hi-lo; j++ {
		i := lo + rng.IntN(j+1)
		if slices.Contains(dst[first:], i) {
			i = lo + j
		}
		dst = append(dst, i)
	}
	return dst
}

// closest returns the k nodes closest to a target that are accepted, closest first.
func (n *network) closest(target router.ID, k int, accept func(int) bool) []int {
	const enough = 64 // nodes to descend to; then further up as long as there are too few
	type span struct{ lo, hi int }
	key := binary.BigEndian.Uint64(target[:])
	spans := []span{{0, len(n.keys)}}
	for level := 0; level < 64; level++ {
		s := spans[len(spans)-1]
		if s.hi-s.lo <= enough {
			break
		}
		if mid := n.split(s.lo, s.hi, level); key>>(63-level)&1 == 0 {
			s.hi = mid
		} else {
			s.lo = mid
		}
		spans = append(spans, s)
	}
	var found []int
	for i := len(spans) - 1; i >= 0 && len(found) < k; i-- {
		found = found[:0]
		for j := spans[i].lo; j < spans[i].hi; j++ {
			if accept(j) {
				found = append(found, j)
			}
		}
	}
	slices.SortFunc(found, func(a, b int) int {
		if router.Closer(target, n.ids[a], n.ids[b]) {
			return -1
		}
		return 1
	})
	return found[:min(k, len(found))]
}
