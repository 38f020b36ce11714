package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of clients, as the report calls them.
const (
	kernelNear       = "one datagram to a box nearby"
	kernelNear6      = "the same over IPv6"
	kernelFar        = "one datagram to a box a link away"
	userNear         = "one datagram to a box nearby without kernel half"
	ownMember        = "a node of ours (router.Node)"
	libtorrentMember = "libtorrent"
	programVia       = "`kdht get --via`, box a link away"
	programIterative = "`kdht get`"
	libtorrentAnew   = "libtorrent, new session"
)

// groups are the rows of the latency table by what the client knows.
var groups = []struct {
	title string
	names []string
}{
	{"knows one address", []string{kernelNear, kernelNear6, kernelFar, userNear}},
	{"takes part in the network, with a filled routing table", []string{ownMember, libtorrentMember}},
	{"knows one address, begins anew each time", []string{programVia, programIterative, libtorrentAnew}},
}

// series is what became of gets of one kind.
type series struct {
	name    string
	took    []time.Duration // of those found
	all     []time.Duration // of all that were answered
	rounds  []time.Duration // of each in turn, 0 if it was not found
	came    [outcomes]int
	hops    []int
	queries int
	odd     []string // what neither gave a value nor said why not, for whoever looks for the reason
}

// add adds a get.
func (s *series) add(o outcome, took time.Duration, st ...steps) {
	s.came[o]++
	if o != silent {
		s.all = append(s.all, took)
	}
	if o == found {
		s.took = append(s.took, took)
		s.rounds = append(s.rounds, took)
	} else {
		s.rounds = append(s.rounds, 0)
	}
	for _, x := range st {
		if x.hops > 0 {
			s.hops = append(s.hops, x.hops)
			s.queries += x.queries
		}
	}
}

// ratio is how many times as long as those of another series its gets took: the median of the quotients within rounds, which what
// else the machine does affects little, and the bounds between which the true median is with 95 % confidence. Zeros: not known.
func (s *series) ratio(other *series) (median, from, to float64) {
	var ratios []float64
	for i := range min(len(s.rounds), len(other.rounds)) {
		if s.rounds[i] > 0 && other.rounds[i] > 0 {
			ratios = append(ratios, float64(s.rounds[i])/float64(other.rounds[i]))
		}
	}
	from, to = medianBounds(ratios)
	return quantile(ratios, 0.5), from, to
}

// medianBounds are the order statistics between which the median of a distribution is with 95 % confidence, whatever its shape:
// how many of n values are below it is binomial with p = 1/2, here approximated by the normal distribution.
func medianBounds(values []float64) (from, to float64) {
	if len(values) == 0 {
		return 0, 0
	}
	values = slices.Sorted(slices.Values(values))
	n := float64(len(values))
	reach := 1.96 * math.Sqrt(n) / 2
	return values[int(max(0, math.Floor(n/2-reach)))], values[int(min(n-1, math.Ceil(n/2+reach)))]
}

func (s *series) total() (n int) {
	for _, k := range s.came {
		n += k
	}
	return n
}

// report is what was found out.
type report struct {
	o         *options
	startTime time.Duration
	items     []*item
	memory    uint64    // bytes of the machine's memory that were gone after the start
	contacts  []int     // IPv4, of each node
	loads     []float64 // before and after the clients were timed, at every delay

	timed    map[time.Duration]map[string]*series
	all      [2][2]series // the first time and again, over IPv4 and IPv6
	allRate  float64
	kernel   kernelCounts // while all was got
	suffered []*series
	told     [2][]int64 // lies about items and about peers
}

func newReport(o *options) *report {
	return &report{o: o, timed: map[time.Duration]map[string]*series{}}
}

// at returns the series of a kind of client at a delay.
func (r *report) at(name string, delay time.Duration) *series {
	if r.timed[delay] == nil {
		r.timed[delay] = map[string]*series{}
	}
	if r.timed[delay][name] == nil {
		r.timed[delay][name] = &series{name: name}
	}
	return r.timed[delay][name]
}

// markdown is the report for people.
func (r *report) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%d nodes with b = %d, each a process with its own XDP program (native, veth) in a network namespace of its own, on %s; ready after %v; "+
		"%.1f GiB of the machine's memory were gone then, %.0f MiB per node; %d contacts per node in the median. Load average while clients were timed: %.0f to %.0f.\n\n",
		r.o.Nodes, r.o.Bits, machine(), r.startTime.Round(time.Second), float64(r.memory)/(1<<30), float64(r.memory)/(1<<20)/float64(r.o.Nodes), quantile(r.contacts, 0.5), slices.Min(r.loads), slices.Max(r.loads))

	stored := make([]int64, len(r.items))
	for i, it := range r.items {
		stored[i] = it.stored
	}
	p("%d items were put by random nodes, each at %d to %d nodes of both families together. %d nodes were asked for every one, with one datagram each:\n\n| | gets | true value | longest | 99 %% within | median |\n| --- | --: | --: | --: | --: | --: |\n",
		r.o.Items, quantile(stored, 0), quantile(stored, 1), r.o.Tried)
	for i, how := range []string{"IPv4", "IPv6", "IPv4, after IPv6", "IPv6, after IPv4"} {
		s := &r.all[i/2][i%2]
		p("| %s | %d | %d | %s | %s | %s |\n", how, s.total(), s.came[found], short(quantile(s.all, 1)), short(quantile(s.all, 0.99)), short(quantile(s.all, 0.5)))
	}
	p("\nThat were %.0f gets per second. The kernel halves began %d recursions, of which user space took %d over because a node was late; nodes asked one after the other:",
		r.allRate, r.kernel.replied+r.kernel.late, r.kernel.late)
	for hops, n := range r.kernel.hops {
		if n > 0 {
			p(" %d: %d times,", hops, n)
		}
	}
	b.WriteString(" the rest was held or in memory.\n\n")

	p("The same items, in turn, by every kind of client; median / 99 %%, and × how many times as long as by one datagram to a box nearby (the median of the " +
		"quotients within turns, and between what it is with 95 %% confidence):\n\n| client |")
	for _, d := range r.o.Delays {
		p(" links of %v |", d)
	}
	p(" hops, mean (most) | queries |\n| --- |%s --: | --: |\n", strings.Repeat(" --: |", len(r.o.Delays)))
	for _, g := range groups {
		p("| **%s** |%s | |\n", g.title, strings.Repeat(" |", len(r.o.Delays)))
		for _, name := range g.names {
			var sum series
			p("| %s |", name)
			for _, d := range r.o.Delays {
				s := r.at(name, d)
				p(" %s / %s", short(quantile(s.took, 0.5)), short(quantile(s.took, 0.99)))
				if x, from, to := s.ratio(r.at(kernelNear, d)); x > 0 && name != kernelNear {
					p(", ×%s (%s to %s)", quotient(x), quotient(from), quotient(to))
				}
				if missing := s.total() - s.came[found]; missing > 0 {
					p(" (%d of %d not found)", missing, s.total())
				}
				b.WriteString(" |")
				sum.hops = append(sum.hops, s.hops...)
				sum.queries += s.queries
			}
			if len(sum.hops) == 0 {
				b.WriteString(" | |\n")
				continue
			}
			total := 0
			for _, h := range sum.hops {
				total += h
			}
			p(" %.2f (%d) | %.1f |\n", float64(total)/float64(len(sum.hops)), slices.Max(sum.hops), float64(sum.queries)/float64(len(sum.hops)))
		}
	}

	b.WriteString("\nFaults, with one datagram by a client nearby; where its own are lost too it asks again every half second. Nobody can verify peers: " +
		"the true value is that the one that was announced is among those named, another value that it is not, and where liars name some of what was never announced that is another value as well:\n\n" +
		"| fault | gets | true value | \"not there\" | \"ran out of time\" | no answer | refused | other value | median | 99 % within | longest |\n" +
		"| --- |" + strings.Repeat(" --: |", 10) + "\n")
	for _, s := range r.suffered {
		p("| %s | %d | %d | %d | %d | %d | %d | %d | %s | %s | %s |\n", s.name, s.total(), s.came[found], s.came[notThere], s.came[notSure], s.came[silent], s.came[refused], s.came[wrong],
			short(quantile(s.all, 0.5)), short(quantile(s.all, 0.99)), short(quantile(s.all, 1)))
	}
	p("\nLies told when asked for items: ")
	for i, n := range r.told[0] {
		p("%s %d, ", lies[i].name, n)
	}
	p("and when asked for peers: ")
	for i, n := range r.told[1] {
		p("%s %d, ", cmp.Or(lies[i].peers, lies[i].name), n)
	}
	return strings.TrimSuffix(b.String(), ", ") + ".\n"
}

// quantile returns the value below which a share of the values lies; zero if there are none.
func quantile[T cmp.Ordered](values []T, share float64) (q T) {
	if len(values) == 0 {
		return q
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// quotient writes a quotient with a third decimal where it is about 1.
func quotient(x float64) string {
	if 0.9 < x && x < 1.1 {
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// short writes a time with three digits or so.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// machine names the machine.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%d CPUs (%s), Linux %s", runtime.NumCPU(), cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH), unix.ByteSliceToString(u.Release[:]))
}

// available is how much memory programs could still have, in bytes.
func available() uint64 {
	kib, _ := strconv.ParseUint(strings.TrimSuffix(field("/proc/meminfo", "MemAvailable"), " kB"), 10, 64)
	return kib << 10
}

// loadAverage is that of the last minute; 0 if it is unknown.
func loadAverage() (load float64) {
	b, _ := os.ReadFile("/proc/loadavg")
	text, _, _ := strings.Cut(string(b), " ")
	load, _ = strconv.ParseFloat(text, 64)
	return load
}

// field returns the value of the first line NAME: VALUE of a file, empty if there is none.
func field(file, name string) string {
	b, _ := os.ReadFile(file)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
