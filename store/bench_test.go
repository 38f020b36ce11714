package store_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"kdht/store"
)

// unbounded is for benchmarks that would meet the quotas.
var unbounded = store.Options{MaxBytes: -1, MaxItems: -1, MaxInfohashes: -1, MaxPeersPerInfohash: -1, MaxBytesPerSource: -1}

// BenchmarkPut puts new items of 300 bytes; in parallel, the writers share fsyncs.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, tempPath(b), unbounded)
			var n atomic.Int64
			before := s.Stats()
			concurrently(b, writers, func() {
				i := int(n.Add(1))
				must(b, s.PutItem(immutable(fmt.Sprintf("%-296d", i)), nil, addr4(i)))
			})
			st := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric(float64(st.Writes-before.Writes)/float64(st.Commits-before.Commits), "puts/commit")
		})
	}
}

// BenchmarkRefresh puts the same items again, as republishing does.
func BenchmarkRefresh(b *testing.B) {
	c := newClock()
	o := unbounded
	o.Now = c.Now
	s := open(b, tempPath(b), o)
	items := make([]*store.Item, 1000)
	for i := range items {
		items[i] = full(i)
	}
	parallel(len(items), func(n int) { must(b, s.PutItem(items[n], nil, addr4(1))) })
	var n atomic.Int64
	concurrently(b, 64, func() {
		i := int(n.Add(1))
		if i%len(items) == 0 {
			c.Advance(1e9)
		}
		must(b, s.PutItem(items[i%len(items)], nil, addr4(1)))
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}

// BenchmarkAnnounce announces new peers.
func BenchmarkAnnounce(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, tempPath(b), unbounded)
			var n atomic.Int64
			before := s.Stats()
			concurrently(b, writers, func() {
				i := int(n.Add(1))
				must(b, s.Announce(key(i%1000), netip.AddrPortFrom(addr4(i), 6881), false, addr4(i)))
			})
			st := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "announces/s")
			b.ReportMetric(float64(st.Writes-before.Writes)/float64(st.Commits-before.Commits), "announces/commit")
		})
	}
}

// BenchmarkRead measures the reading side, alone and while others write.
func BenchmarkRead(b *testing.B) {
	const items = 20000
	s := open(b, tempPath(b), unbounded)
	targets := make([][20]byte, items)
	parallel(items, func(n int) {
		it := immutable(fmt.Sprintf("%-296d", n))
		targets[n] = it.Target
		must(b, s.PutItem(it, nil, addr4(n)))
	})
	parallel(20000, func(n int) {
		must(b, s.Announce(key(n%200), netip.AddrPortFrom(addr4(n), 6881), n%2 == 0, addr4(n)))
	})
	reads := []struct {
		name string
		fn   func(i int)
	}{
		{"Item", func(i int) {
			if _, err := s.Item(targets[i*7919%items]); err != nil {
				b.Error(err)
			}
		}},
		{"ItemMiss", func(i int) { _, _ = s.Item(key0(i)) }},
		{"HoldsMiss", func(i int) { s.Holds(key0(i)) }},
		{"Holds", func(i int) { s.Holds(targets[i*7919%items]) }},
		{"Peers50of100", func(i int) {
			var buf [50]store.Peer
			if p, _ := s.Peers(key0(0), false, 50, false, buf[:0]); len(p) != 0 {
				b.Error(len(p))
			}
		}},
	}
	hot := key(7)
	reads[4].fn = func(int) {
		var buf [50]store.Peer
		if p, _ := s.Peers(hot, false, 50, false, buf[:0]); len(p) != 50 {
			b.Error(len(p))
		}
	}
	for _, r := range reads {
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				r.fn(i)
			}
		})
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				must(b, s.PutItem(immutable(fmt.Sprintf("w%-295d", n)), nil, addr4(n)))
			}
		}
	}()
	b.Run("ItemWhileWriting", func(b *testing.B) {
		for i := range b.N {
			reads[0].fn(i)
		}
	})
	close(stop)
	<-done
}

func key0(i int) (k [20]byte) {
	k[0], k[1], k[2], k[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
	return k
}

// concurrently runs fn b.N times in all, in so many goroutines.
func concurrently(b *testing.B, workers int, fn func()) {
	b.ResetTimer()
	parallelIn(workers, b.N, func(int) { fn() })
	b.StopTimer()
}
