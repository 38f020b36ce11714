package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkRecursion has a client get one item after the other by recursion, each of which is new to the node and stored at one of its
// neighbours, and says what that costs the program: CPU time, how often its threads go to sleep and so are woken, and how
// long the client waits. Neighbours answer at once, or as if links delayed packets by 20 ms each way.
//
// With KDHT_BENCH_OTHER, another build of the program, both are asked in turn, so that their figures can be compared on a
// machine that does other work.
func BenchmarkRecursion(b *testing.B) {
	names, binaries := []string{"this"}, []string{buildNode(b)}
	if other := os.Getenv("KDHT_BENCH_OTHER"); other != "" {
		names, binaries = append(names, "other"), append(binaries, other)
	}
	var rigs []*floodRig
	for _, binary := range binaries {
		rigs = append(rigs, newFloodRigOf(b, binary, 1000))
	}
	for _, c := range []struct {
		name         string
		delay, pause time.Duration
	}{{"at once", 0, 14 * time.Millisecond}, {"sparse", 0, 100 * time.Millisecond}, {"links of 20 ms", 40 * time.Millisecond, 4 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			var clients []*client
			for i, r := range rigs {
				clients = append(clients, r.lan.client(b, names[i], lanTrusted[0], getOf(r.lan.items.add, true)))
				for _, n := range r.lan.nodes {
					n.delay.Store(int64(c.delay))
				}
			}
			for range 4 { // who answered at once until now is known to take longer
				for _, c := range clients {
					c.ask(b)
				}
			}
			spent := make([]spending, len(rigs))
			for i, r := range rigs {
				spent[i] = spendingOf(b, r.pid)
				clients[i].reset()
			}
			took := make([][]time.Duration, len(rigs))
			for n := range b.N {
				for j := range rigs {
					i := (n + j) % len(rigs)
					begin := time.Now()
					clients[i].ask(b)
					took[i] = append(took[i], time.Since(begin))
					time.Sleep(c.pause)
				}
			}
			for i, r := range rigs {
				s := spendingOf(b, r.pid)
				if clients[i].answered.Load() != int64(b.N) {
					b.Errorf("%v", clients[i])
				}
				slices.Sort(took[i])
				n := float64(b.N)
				b.ReportMetric(float64((s.cpu-spent[i].cpu).Microseconds())/n, names[i]+"-CPU-µs/op")
				b.ReportMetric(float64(s.sleeps-spent[i].sleeps)/n, names[i]+"-sleeps/op")
				b.ReportMetric(float64(took[i][len(took[i])/2].Microseconds()), names[i]+"-median-µs")
			}
		})
	}
}

// spending is what a process has used up.
type spending struct {
	cpu    time.Duration
	sleeps int // how often a thread has waited for something
}

func spendingOf(t testing.TB, pid int) spending {
	t.Helper()
	s := spending{cpu: cpuOf(t, pid)}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue // the thread has ended
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "voluntary_ctxt_switches:"); ok {
				k, err := strconv.Atoi(strings.TrimSpace(n))
				must(t, err)
				s.sleeps += k
			}
		}
		_ = f.Close() // only read
	}
	return s
}
