package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kdht/bpf"
)

// BenchmarkHotHits reads how often so many hot items were asked for.
func BenchmarkHotHits(b *testing.B) {
	r := rand.New(rand.NewPCG(21, 9))
	_, it := hotItem(r, 100)
	for _, n := range []int{1, 10, 30, 100, 300, 1000, 3000} {
		b.Run(fmt.Sprintf("%d keys", n), func(b *testing.B) {
			p := program(b, &bpf.Snapshot{})
			for range n {
				must(b, p.SetHotItem(randomID(r), it, time.Hour))
			}
			before, seen := cpuTime(), 0
			for b.Loop() {
				seen = 0
				must(b, p.HotHits(func(id, uint64) { seen++ }))
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
			if seen != n {
				b.Fatalf("%d keys, want %d", seen, n)
			}
		})
	}
}
