package status

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"kdht/appliance/health"
	"kdht/appliance/history"
)

// view is what the page shows: a report, the past, and what follows from both.
type view struct {
	Report
	past    history.History
	minutes []figure
	day     []figure
}

// Head is that of the page.
func (v view) Head() Head {
	return Head{Name: v.Host.Name, Here: "/", Tools: v.Tools != "", Live: true}
}

// State is how the node is, in a word that is also a class of the style sheet.
func (v view) State() string { return string(cmp.Or(v.Health.State, health.Waiting)) }

// Headline is how the node is, in a sentence or two.
func (v view) Headline() string { return cmp.Or(v.Health.Headline, "Starting.") }

// counter is one of user space; 0 if there is none of that name.
func (v view) counter(group, name string) uint64 {
	for _, c := range v.Node {
		if c.Group == group && c.Name == name {
			return c.Value
		}
	}
	return 0
}

// Recursed is a counter of recursion.
func (v view) Recursed(what string) uint64 { return v.counter("recursion", what) }

// AnsweredKernel is how many queries the kernel half has answered.
func (v view) AnsweredKernel() (n uint64) {
	for _, c := range v.XDP.Counters {
		if c.Query != "" {
			n += c.Packets
		}
	}
	return n
}

// Answered is how many queries were answered.
func (v view) Answered() uint64 {
	n := v.AnsweredKernel()
	for _, c := range v.Node {
		if c.Group == "query answered" {
			n += c.Value
		}
	}
	return n
}

// droppedBy are the reasons for which the kernel half drops; for all others it answers or passes up.
var droppedBy = map[string]bool{"limited": true, "overloaded": true}

// Dropped is how many datagrams were dropped.
func (v view) Dropped() (n uint64) {
	for _, c := range v.Node {
		if c.Group == "drop" {
			n += c.Value
		}
	}
	for _, c := range v.XDP.Counters {
		if droppedBy[c.Reason] {
			n += c.Packets
		}
	}
	return n
}

// XDPModes are those in which the kernel half is attached.
func (v view) XDPModes() string {
	var modes []string
	for _, n := range v.XDP.NICs {
		if n.Mode != "none" && !slices.Contains(modes, n.Mode) {
			modes = append(modes, n.Mode)
		}
	}
	slices.Sort(modes)
	return strings.Join(modes, " and ") + " mode"
}

// Now is the newest value of some metrics together.
func (v view) Now(names ...string) float64 {
	sum := math.NaN()
	for _, s := range v.past.Minutes.Series {
		if n := len(s.Values); slices.Contains(names, s.Name) && n > 0 && s.Values[n-1].Known() {
			if math.IsNaN(sum) {
				sum = 0
			}
			sum += float64(s.Values[n-1])
		}
	}
	return sum
}

// Contacts and Good are those of all families.
func (v view) Contacts() (n int) {
	for _, f := range v.Families {
		n += f.Contacts
	}
	return n
}

func (v view) Good() (n int) {
	for _, f := range v.Families {
		n += f.Good
	}
	return n
}

// RTT is the shortest of the families' round trips; 0 if none is known.
func (v view) RTT() (rtt float64) {
	for _, f := range v.Families {
		if f.RTT > 0 && (rtt == 0 || f.RTT < rtt) {
			rtt = f.RTT
		}
	}
	return rtt
}

// queryRow is a type of query, and who answered it.
type queryRow struct {
	Method             string
	Kernel, User, Sent uint64
	KernelShare        float64
	UserShare          float64
}

// rare are types that are not worth a row while there are none.
var rare = map[string]bool{"unknown": true, "sample_infohashes": true}

// Queries counts queries by type.
func (v view) Queries() (rows []queryRow) {
	at := make(map[string]int)
	row := func(method string) *queryRow {
		i, ok := at[method]
		if !ok {
			i = len(rows)
			at[method] = i
			rows = append(rows, queryRow{Method: method})
		}
		return &rows[i]
	}
	for _, c := range v.Node {
		switch c.Group {
		case "query answered":
			row(c.Name).User += c.Value
		case "query sent":
			row(c.Name).Sent += c.Value
		}
	}
	for _, c := range v.XDP.Counters {
		if c.Query != "" {
			row(strings.TrimPrefix(c.Query, "hot_")).Kernel += c.Packets
		}
	}
	rows = slices.DeleteFunc(rows, func(r queryRow) bool { return r.Kernel+r.User+r.Sent == 0 && rare[r.Method] })
	for i := range rows {
		if sum := float64(rows[i].Kernel + rows[i].User); sum > 0 {
			rows[i].KernelShare = 100 * float64(rows[i].Kernel) / sum
			rows[i].UserShare = 100 - rows[i].KernelShare
		}
	}
	return rows
}

// bar is a number among others.
type bar struct {
	Name, By string
	Class    string // colour
	Count    uint64
	Share    float64 // of the largest, percent
}

// scale sets the shares.
func scale(bars []bar) []bar {
	var most uint64
	for _, b := range bars {
		most = max(most, b.Count)
	}
	for i := range bars {
		if most > 0 {
			bars[i].Share = 100 * float64(bars[i].Count) / float64(most)
		}
	}
	return bars
}

// maxReasons bounds the reasons that are shown at once; all are in the counters below.
const maxReasons = 10

// kernelDone are the reasons, beside answers, for which the kernel half had done all there was to do.
var kernelDone = map[string]bool{"challenged": true, "recursion_begun": true, "recursion_joined": true, "hop_followed": true, "hop_ended": true, "hop_late": true}

// Reasons counts datagrams by why the kernel half did not answer them, or why they were dropped or refused, the most frequent
// first.
func (v view) Reasons() (bars []bar) {
	for _, c := range v.XDP.Counters {
		b := bar{Name: strings.ReplaceAll(c.Reason, "_", " "), By: "passed up", Class: "user", Count: c.Packets}
		switch {
		case c.Query != "":
			continue
		case droppedBy[c.Reason]:
			b.By, b.Class = "dropped", "dropped"
		case kernelDone[c.Reason]:
			b.By, b.Class = "by the kernel", "kernel"
		}
		bars = append(bars, b)
	}
	for _, c := range v.Node {
		switch c.Group {
		case "error sent":
			bars = append(bars, bar{Name: "error " + c.Name, By: "refused", Class: "fourth", Count: c.Value})
		case "drop":
			bars = append(bars, bar{Name: c.Name, By: "dropped", Class: "dropped", Count: c.Value})
		}
	}
	bars = slices.DeleteFunc(bars, func(b bar) bool { return b.Count == 0 })
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(b.Count, a.Count) })
	return scale(bars[:min(len(bars), maxReasons)])
}

// HitRate is the share of clients' gets that were answered at once; empty if there were none.
func (v view) HitRate() string {
	at := v.Recursed("answered from the store") + v.Recursed("answered from the cache")
	all := at + v.Recursed("begun") + v.Recursed("joined one under way")
	if all == 0 {
		return ""
	}
	return percent(at, all)
}

// Times counts recursions by how long they took.
func (v view) Times() (bars []bar) {
	for _, t := range v.Recursion.Times {
		name := "longer"
		if t.Within >= 1 {
			name = fmt.Sprintf("%g s", t.Within)
		} else if t.Within > 0 {
			name = fmt.Sprintf("%g ms", t.Within*1000)
		}
		bars = append(bars, bar{Name: name, Class: "kernel", Count: t.Count})
	}
	return scale(bars)
}

// MeanTime is how long recursions took on average; empty if there were none.
func (v view) MeanTime() string {
	var n uint64
	for _, t := range v.Recursion.Times {
		n += t.Count
	}
	if n == 0 {
		return ""
	}
	return significant(1000*v.Recursion.TimeSum/float64(n)) + " ms"
}

// Hops counts recursions by their hops, without those at the end that never occurred.
func (v view) Hops() (bars []bar) {
	for i, n := range v.Recursion.Hops {
		name := strconv.Itoa(i)
		if i == len(v.Recursion.Hops)-1 {
			name += " or more"
		}
		bars = append(bars, bar{Name: name, Class: "kernel", Count: n})
	}
	for len(bars) > 0 && bars[len(bars)-1].Count == 0 {
		bars = bars[:len(bars)-1]
	}
	return scale(bars)
}

// share is a part of a whole in percent.
func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(max(100*float64(part)/float64(whole), 0), 100)
}

func (v view) StoreShare() float64 { return share(v.Store.Bytes, v.Store.MaxBytes) }
func (v view) MemoryUsed() int64   { return v.Host.Memory - v.Host.MemoryAvailable }
func (v view) MemoryShare() float64 {
	return share(v.MemoryUsed(), v.Host.Memory)
}
func (v view) DiskUsed() int64    { return v.Host.Disk.Size - v.Host.Disk.Free }
func (v view) DiskShare() float64 { return share(v.DiskUsed(), v.Host.Disk.Size) }

// CommitTime is how long a commit of the store takes on average; empty if there were none.
func (v view) CommitTime() string {
	if v.Store.Commits == 0 {
		return ""
	}
	return significant(1000*v.Store.CommitTime/float64(v.Store.Commits)) + " ms"
}

// Sizes of the picture of a routing table, in its own units.
const (
	slot       = 5.5 // from one contact to the next
	bucketRoom = 8 * slot
	levelRoom  = 22
	labelRoom  = 24
)

// picture draws the routing table: a row for each level, the farthest contacts first, a box for each bucket, in it a mark for
// each contact, and below them one for each replacement. All marks of a kind are one path.
func (f Family) picture() template.HTML {
	columns, rows := f.LevelBuckets(), 0
	at := make(map[int]int)
	for _, l := range f.Levels {
		at[l.PrefixLen] = rows
		rows++
	}
	width := labelRoom + float64(columns)*(bucketRoom+5)
	var frames, free, good, questionable, bad, replacement, labels strings.Builder
	for _, l := range f.Levels {
		y := at[l.PrefixLen]*levelRoom + 1
		fmt.Fprintf(&labels, `<text x="0" y="%d">%d</text>`, y+12, l.PrefixLen)
		for c := range columns {
			fmt.Fprintf(&frames, "M%g %dh%gv%dh-%gz", labelRoom+float64(c)*(bucketRoom+5), y, bucketRoom+1.0, levelRoom-4, bucketRoom+1.0)
		}
	}
	for _, b := range f.Buckets {
		row, ok := at[b.PrefixLen]
		if !ok || b.Number < 0 || b.Number >= columns {
			continue // not of this table
		}
		left := labelRoom + float64(b.Number)*(bucketRoom+5) + slot/2 + .5
		y := row*levelRoom + 7
		for i := range 8 {
			x := left + float64(i)*slot
			switch {
			case i < b.Good:
				fmt.Fprintf(&good, "M%g %dh0", x, y)
			case i < b.Good+b.Questionable:
				fmt.Fprintf(&questionable, "M%g %da1.8 1.8 0 1 0 3.6 0 1.8 1.8 0 1 0-3.6 0", x-1.8, y)
			case i < b.Good+b.Questionable+b.Bad:
				fmt.Fprintf(&bad, "M%g %dl3.6 3.6m0-3.6-3.6 3.6", x-1.8, y-2)
			default:
				fmt.Fprintf(&free, "M%g %dh0", x, y)
			}
			if i < b.Replacement {
				fmt.Fprintf(&replacement, "M%g %dh2", x-1, y+7)
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<svg class="table" viewBox="0 0 %g %d" role="img" aria-label="Routing table %s: %d levels, the farthest contacts in the first row; the table below has the numbers">`,
		width, max(rows*levelRoom, 1), template.HTMLEscapeString(f.Family), rows)
	for _, p := range []struct {
		class string
		d     *strings.Builder
	}{{"frame", &frames}, {"free", &free}, {"is-good", &good}, {"is-questionable", &questionable}, {"is-bad", &bad}, {"is-replacement", &replacement}} {
		if p.d.Len() > 0 {
			fmt.Fprintf(&out, `<path class="%s" d="%s"/>`, p.class, p.d)
		}
	}
	out.WriteString(labels.String() + "</svg>")
	return template.HTML(out.String()) // made of numbers
}
