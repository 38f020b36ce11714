package sim

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"kdht/router"
)

// A converged table has, of each group of nodes that a bucket is for, 8 or all, and nobody else.
func TestTablesHaveConverged(t *testing.T) {
	const nodes = 3000
	net := newNetwork(nodes, 3)
	for bits := 1; bits <= maxBits; bits++ {
		for node := 0; node < nodes; node += 211 {
			type bucket struct{ level, number int }
			place := func(i int) bucket {
				level := router.PrefixLen(net.ids[node], net.ids[i])
				return bucket{level, int(net.keys[i] << (level + 1) >> 1 >> (64 - bits))}
			}
			there, got := make(map[bucket]int), make(map[bucket]int)
			for i := range nodes {
				if i != node {
					there[place(i)]++
				}
			}
			table := net.appendTable(nil, node, bits)
			for _, c := range table {
				got[place(c)]++
			}
			for b, n := range there {
				if got[b] != min(n, bucketSize) {
					t.Errorf("b = %d, node %d: %d contacts at %+v, where there are %d nodes", bits, node, got[b], b, n)
				}
			}
			slices.Sort(table)
			if len(slices.Compact(table)) != len(table) || slices.Contains(table, node) {
				t.Errorf("b = %d, node %d: a contact twice, or itself", bits, node)
			}
		}
	}
}

// What a node answers from is what its table publishes once all of its contacts have answered.
func TestViewIsThatOfTheTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	net := newNetwork(2000, 4)
	for i := range 20 {
		bits := 1 + i%maxBits
		w := newWorld(net, bits, bits)
		node := rng.IntN(2000)
		v, err := w.view(node)
		if err != nil {
			t.Fatal(err)
		}
		of, err := router.NewView(router.NewSnapshot(w.newTable(node, 0), nil, [16]byte{}))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			target := w.ids[rng.IntN(2000)]
			target[3] ^= byte(rng.Uint32())
			a, b := v.AppendClosest(nil, router.IPv4, target), of.AppendClosest(nil, router.IPv4, target)
			if len(a) != bucketSize*26 || !bytes.Equal(a, b) {
				t.Errorf("node %d names %x, its table %x", node, a, b)
			}
		}
	}
}

// The closest nodes, found by descending, are those that sorting all finds.
func TestClosest(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	net := newNetwork(5000, 5)
	for range 50 {
		var target router.ID
		for i := range target {
			target[i] = byte(rng.Uint32())
		}
		dead := 0.9 * rng.Float64()
		var want []int
		for i := range net.ids {
			if net.alive(i, dead) {
				want = append(want, i)
			}
		}
		if share := 1 - float64(len(want))/5000; share < dead-0.05 || share > dead+0.05 {
			t.Errorf("%.2f of the nodes are dead; want %.2f", share, dead)
		}
		slices.SortFunc(want, func(a, b int) int {
			x, y := router.Distance(target, net.ids[a]), router.Distance(target, net.ids[b])
			return bytes.Compare(x[:], y[:])
		})
		got := net.closest(target, bucketSize, func(i int) bool { return net.alive(i, dead) })
		if !slices.Equal(got, want[:bucketSize]) {
			t.Errorf("closest to %v: %v; want %v", target, got, want[:bucketSize])
		}
	}
}
