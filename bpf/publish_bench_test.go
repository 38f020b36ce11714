package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"kdht/bpf"
)

// BenchmarkPublish publishes tables of both families, full on the first 20 levels, of which one contact changes each time. What
// it takes is reported as CPU time, because most of the rest is the kernel's wait for its readers.
func BenchmarkPublish(b *testing.B) {
	for bits := 1; bits <= bpf.MaxBits; bits++ {
		r := rand.New(rand.NewPCG(1, 3))
		s := &bpf.Snapshot{Bits: bits, ID4: randomID(r), ID6: randomID(r)}
		for level := range 20 {
			counts := map[[2]int]int{}
			for len(s.Nodes4) < (level+1)*8<<(bits-1) {
				i := idAt(r, s.ID4, level)
				if k := bucketOf(s.ID4, i, bits); counts[k] < 8 {
					counts[k]++
					s.Nodes4 = append(s.Nodes4, [26]byte(append(i[:], 1, 2, 3, 4, 5, 6)))
					six := xor(xor(i, s.ID4), s.ID6)
					s.Nodes6 = append(s.Nodes6, [38]byte(append(six[:], make([]byte, 18)...)))
				}
			}
		}
		b.Run(fmt.Sprintf("b=%d/%d contacts", bits, len(s.Nodes4)+len(s.Nodes6)), func(b *testing.B) {
			p := program(b, s)
			next := *s
			next.Nodes4 = slices.Clone(s.Nodes4)
			before := cpuTime()
			for b.Loop() {
				next.Nodes4[r.IntN(len(next.Nodes4))][25]++
				must(b, p.Publish(&next))
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

// cpuTime is what the process has used so far, in ns.
func cpuTime() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return u.Utime.Nano() + u.Stime.Nano()
}
