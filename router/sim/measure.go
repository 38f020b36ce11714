package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"kdht/router"
)

const (
	// minNodes is how small a network may be: there must be nodes that do not hold the item.
	minNodes = 4 * bucketSize
	maxBits  = 5
)

// ErrPlan is the class of errors about what a [Plan] says.
var ErrPlan = errors.New("sim: plan")

// errAllDead is about a seed under which nobody is left to look up anything.
var errAllDead = errors.New("no living node but those that hold the item")

// Plan says what to simulate.
type Plan struct {
	Nodes   []int   // sizes of networks
	Bits    []int   // values of b
	Dead    float64 // share of dead nodes in the second round, from 0 to less than 1
	Lookups int     // of each kind, per network and round
	Tables  int     // nodes whose tables are measured and kept up, per network
	Seed    uint64
}

// Result is what one network was found to cost.
type Result struct {
	Nodes int
	Bits  int
	Alive Round // nobody is dead
	Dead  Round // the share of nodes that the plan says
	Mixed Round // nobody is dead; b is that of the node that looks up, all others have 1, as most do in the public network
	Table Table
}

// Round is the outcome of lookups of random targets by random nodes.
type Round struct {
	// FindNode looks for the 8 closest nodes; Right are the lookups that found exactly these.
	FindNode Cost
	// Get looks for an item of 100 bytes, three queries at a time; Right are those that found it.
	Get Cost
	// Recursion is a get through the kernel half alone; Right are those that found the item.
	Recursion Cost
	// Rescued is the same, where user space takes over what the kernel half could not finish.
	Rescued Cost
}

// Cost is what lookups of one kind cost. Messages are queries and responses; bytes are with IPv4 and UDP headers.
type Cost struct {
	HopsMedian int     // queries in the longest chain of referrals to a node that answered
	HopsP99    int     // the same, 99th percentile
	Hops       float64 // the same, mean
	Messages   float64 // mean
	Bytes      float64 // mean
	Right      float64 // share of the lookups
	Share      float64 // of the 8 closest nodes that FindNode looks for, mean
}

// Table is a node's routing table, on average: what it holds, and what its upkeep takes in an hour in which nobody
// comes or goes and nobody asks.
type Table struct {
	Contacts  float64
	Heap      float64 // bytes of the table and of the view in user space, as measured; alone of all it may differ a little between runs
	Pings     float64 // per hour
	Refreshes float64 // lookups per hour
	Messages  float64 // of both, per hour
	Bytes     float64 // of both, per hour
}

func (p Plan) check() error {
	switch {
	case p.Lookups < 1:
		return fmt.Errorf("%w: %d lookups; there must be 1 or more", ErrPlan, p.Lookups)
	case p.Tables < 1:
		return fmt.Errorf("%w: %d tables; there must be 1 or more", ErrPlan, p.Tables)
	case !(p.Dead >= 0 && p.Dead <= 0.5):
		return fmt.Errorf("%w: %v of the nodes dead; it may be 0 to 0.5", ErrPlan, p.Dead)
	}
	for _, n := range p.Nodes {
		if n < minNodes || n > MaxNodes {
			return fmt.Errorf("%w: %d nodes; there may be %d to %d", ErrPlan, n, minNodes, MaxNodes)
		}
	}
	for _, b := range p.Bits {
		if b < 1 || b > maxBits {
			return fmt.Errorf("%w: b is %d; it may be 1 to %d", ErrPlan, b, maxBits)
		}
	}
	return nil
}

// Run simulates what the plan says, and calls done with each result: networks in their order, and for each the values of
// b in theirs. The error is an [ErrPlan], or that of the context.
func (p Plan) Run(ctx context.Context, done func(Result)) error {
	if err := p.check(); err != nil {
		return err
	}
	for _, n := range p.Nodes {
		net := newNetwork(n, p.Seed)
		for _, bits := range p.Bits {
			r, err := p.measure(ctx, net, bits)
			if err != nil {
				return fmt.Errorf("sim: %d nodes, b = %d: %w", n, bits, err)
			}
			done(r)
		}
	}
	return nil
}

func (p Plan) measure(ctx context.Context, net *network, bits int) (Result, error) {
	r := Result{Nodes: len(net.ids), Bits: bits}
	var err error
	if r.Alive, err = p.round(ctx, net, bits, bits, 0); err != nil {
		return r, err
	}
	if r.Dead, err = p.round(ctx, net, bits, bits, p.Dead); err != nil {
		return r, err
	}
	r.Mixed = r.Alive
	if bits > 1 {
		if r.Mixed, err = p.round(ctx, net, bits, 1, 0); err != nil {
			return r, err
		}
	}
	r.Table, err = p.table(ctx, net, bits)
	return r, err
}

// round carries lookups out, by nodes with one b among nodes with another, of which a share is dead.
func (p Plan) round(ctx context.Context, net *network, bits, others int, dead float64) (Round, error) {
	all := make([]struct{ findNode, get, recursion, rescued found }, p.Lookups)
	err := spread(ctx, net, bits, others, p.Lookups, func(w *world, i int) (err error) {
		w.dead = dead
		rng := rand.New(rand.NewPCG(p.Seed, uint64(i)))
		var target router.ID
		for j := range target {
			target[j] = byte(rng.Uint32())
		}
		w.put(target)
		from := rng.IntN(len(net.ids))
		for try := 0; !w.alive(from, dead) || slices.Contains(w.item.holders, from); try++ {
			if try == len(net.ids) {
				return errAllDead
			}
			from = (from + 1) % len(net.ids)
		}
		a := &all[i]
		if a.findNode, err = w.findNode(from, target); err != nil {
			return err
		}
		if a.get, err = w.get(from, nil); err != nil {
			return err
		}
		k, err := w.recurse(from)
		if err != nil {
			return err
		}
		a.recursion, a.rescued = k.found, k.found
		if !k.right {
			g, err := w.get(from, &k)
			if err != nil {
				return err
			}
			a.rescued.hops += g.hops
			a.rescued.cost.messages += g.cost.messages
			a.rescued.cost.bytes += g.cost.bytes
			a.rescued.right = g.right
		}
		return nil
	})
	if err != nil {
		return Round{}, err
	}
	var kinds [4][]found
	for _, a := range all {
		for k, f := range [4]found{a.findNode, a.get, a.recursion, a.rescued} {
			kinds[k] = append(kinds[k], f)
		}
	}
	return Round{costOf(kinds[0]), costOf(kinds[1]), costOf(kinds[2]), costOf(kinds[3])}, nil
}

// table measures tables of random nodes.
func (p Plan) table(ctx context.Context, net *network, bits int) (Table, error) {
	rng := rand.New(rand.NewPCG(p.Seed, uint64(bits)))
	nodes := make([]int, p.Tables)
	for i := range nodes {
		nodes[i] = rng.IntN(len(net.ids))
	}
	heap, contacts, err := heapOf(net, bits, nodes)
	if err != nil {
		return Table{}, err
	}
	kept := make([]upkeep, p.Tables)
	err = spread(ctx, net, bits, bits, p.Tables, func(w *world, i int) (err error) {
		kept[i], err = w.keep(nodes[i])
		return err
	})
	var all upkeep
	for _, u := range kept {
		all.pings += u.pings
		all.refreshes += u.refreshes
		all.cost.messages += u.cost.messages
		all.cost.bytes += u.cost.bytes
	}
	hours := float64(p.Tables) * countFor.Hours()
	return Table{
		Contacts: contacts, Heap: heap,
		Pings: float64(all.pings) / hours, Refreshes: float64(all.refreshes) / hours,
		Messages: float64(all.cost.messages) / hours, Bytes: float64(all.cost.bytes) / hours,
	}, err
}

// heapOf measures how many bytes of the heap a table and the view of it take, and counts the contacts.
func heapOf(net *network, bits int, nodes []int) (bytes, contacts float64, err error) {
	w := newWorld(net, bits, bits)
	var keep []any
	before := heapInUse()
	for _, node := range nodes {
		t := w.newTable(node, 0)
		v, err := router.NewView(router.NewSnapshot(t, nil, [16]byte{}))
		if err != nil {
			return 0, 0, err
		}
		contacts += float64(t.Len())
		keep = append(keep, t, v)
	}
	after := heapInUse()
	runtime.KeepAlive(keep)
	runtime.KeepAlive(w)
	n := float64(len(nodes))
	return float64(int64(after-before)) / n, contacts / n, nil
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// spread calls f for each of n jobs, on all CPUs. A worker has a world of its own, of which the outcome of a job does
// not depend.
func spread(ctx context.Context, net *network, bits, others, n int, f func(w *world, i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	g, ctx := errgroup.WithContext(ctx)
	for worker := range workers {
		g.Go(func() error {
			w := newWorld(net, bits, others)
			for i := worker; i < n; i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(w, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func costOf(all []found) Cost {
	var hops []int
	var sum, right int
	var share float64
	var cost traffic
	for _, f := range all {
		hops = append(hops, f.hops)
		sum += f.hops
		cost.messages += f.cost.messages
		cost.bytes += f.cost.bytes
		share += f.share
		if f.right {
			right++
		}
	}
	slices.Sort(hops)
	n := float64(len(all))
	return Cost{
		HopsMedian: percentile(hops, 0.5), HopsP99: percentile(hops, 0.99), Hops: float64(sum) / n,
		Messages: float64(cost.messages) / n, Bytes: float64(cost.bytes) / n, Right: float64(right) / n, Share: share / n,
	}
}

// percentile returns the smallest of sorted values that a share of them does not exceed.
func percentile(sorted []int, share float64) int {
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}
