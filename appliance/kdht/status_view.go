package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"kdht/appliance/health"
	"kdht/appliance/status"
)

// statusView shows reports to people.
type statusView struct {
	status.Report
	colour bool
	// watch says that reports follow one another; before is the one before, if it is of the same process.
	watch  bool
	before *status.Report
}

// take shows the next report.
func (v *statusView) take(r status.Report) {
	v.before = nil
	if last := v.Report; last.PID == r.PID && last.Started.Equal(r.Started) && r.Time.After(last.Time) {
		v.before = &last
	}
	v.Report = r
}

// stateColours are those of the states.
var stateColours = map[health.State]string{health.Good: green, health.Degraded: yellow, health.Failed: red, health.Waiting: cyan}

// health is the state of the node, and of all on which that depends.
func (v *statusView) health() string {
	var b strings.Builder
	h := v.Health
	if h.Headline == "" { // a version that does not say more
		h.State, h.Headline = health.Waiting, "Not ready."
		if v.Ready {
			h.State, h.Headline = health.Good, "Ready."
		}
	}
	b.WriteString(v.paint(stateColours[h.State]+";"+bold, plain(h.Headline)) + "\n")
	width := 0
	for _, c := range h.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range h.Checks {
		since := ""
		if !c.Since.IsZero() && c.State != health.Good {
			since = " (for " + ago(v.Time.Sub(c.Since)) + ")"
		}
		b.WriteString("  " + v.paint(stateColours[c.State], fmt.Sprintf("%-8s", plain(string(c.State)))) +
			fmt.Sprintf("  %-*s  %s%s\n", width, plain(c.Name), plain(c.Sentence), since))
	}
	return b.String()
}

// text is the whole view.
func (v *statusView) text() string {
	parts := []string{v.host() + v.health(), v.answers(), v.node(), v.kernel(), v.stored()}
	if len(v.Events) > 0 {
		parts = append(parts, v.events())
	}
	if !v.watch {
		for _, s := range v.Sections {
			parts = append(parts, v.section(s))
		}
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	return strings.Join(parts, "\n")
}

// host is the machine and the program on it.
func (v *statusView) host() string {
	words := []string{plain(cmp.Or(v.Host.Name, "this node")) + ": kdht " + plain(v.Version), plain(v.Network) + " network", "up " + ago(v.Time.Sub(v.Started))}
	if v.Host.Kernel != "" {
		words = append(words, "kernel "+plain(v.Host.Kernel)+" "+plain(v.Host.Arch))
	}
	if v.Host.Memory > 0 {
		words = append(words, size(float64(v.Host.MemoryAvailable))+" of "+size(float64(v.Host.Memory))+" memory free")
	}
	if d := v.Host.Disk; d.Size > 0 {
		words = append(words, size(float64(d.Free))+" of "+size(float64(d.Size))+" disk free")
	}
	for _, t := range v.Host.Temperatures {
		words = append(words, fmt.Sprintf("%s %.0f °C", plain(t.Name), t.Celsius))
	}
	if v.watch {
		words = append(words, v.Time.UTC().Format(time.TimeOnly+" MST"))
	}
	return strings.Join(words, ", ") + "\n"
}

func (v *statusView) title(s string) string { return v.paint(bold, s) + "\n" }

// counted are the counters of one report that the view needs.
type counted struct {
	kernel, user             map[string]uint64 // answers by method
	dropped, challenged, own uint64
}

func count(r *status.Report) counted {
	c := counted{kernel: make(map[string]uint64), user: make(map[string]uint64)}
	for _, k := range r.XDP.Counters {
		switch {
		case k.Query != "":
			c.kernel[k.Query] += k.Packets
		case k.Reason == "limited" || k.Reason == "overloaded":
			c.dropped += k.Packets
		case k.Reason == "challenged":
			c.challenged += k.Packets
		}
	}
	for _, n := range r.Node {
		switch {
		case n.Group == "query answered":
			c.user[n.Name] += n.Value
		case n.Group == "drop":
			c.dropped += n.Value
		case n.Group == "unproven source" && n.Name == "challenged":
			c.challenged += n.Value
		case n.Group == "query sent":
			c.own += n.Value
		}
	}
	return c
}

func sum(m map[string]uint64) (n uint64) {
	for _, x := range m {
		n += x
	}
	return n
}

// answers is what the node answers, and what it does not.
func (v *statusView) answers() string {
	now := count(&v.Report)
	var last counted
	rate := func(now, last uint64) string { return "" }
	if v.before != nil {
		last = count(v.before)
		d := v.Time.Sub(v.before.Time).Seconds()
		rate = func(now, last uint64) string {
			if now < last {
				return "" // the maps of the kernel half are new
			}
			return strconv.FormatFloat(float64(now-last)/d, 'f', 1, 64) + "/s"
		}
	}
	methods := maps.Clone(now.user)
	maps.Copy(methods, now.kernel)
	rows := [][]string{{"Answers", "kernel", "", "user space", ""}}
	row := func(name string, k, kBefore, u, uBefore uint64) {
		if k+u > 0 {
			rows = append(rows, []string{"  " + plain(name), grouped(k), rate(k, kBefore), grouped(u), rate(u, uBefore)})
		}
	}
	for _, m := range slices.Sorted(maps.Keys(methods)) {
		row(m, now.kernel[m], last.kernel[m], now.user[m], last.user[m])
	}
	row("all", sum(now.kernel), sum(last.kernel), sum(now.user), sum(last.user))
	if v.before == nil { // no rates
		for i, r := range rows {
			rows[i] = []string{r[0], r[1], r[3]}
		}
	}
	var b strings.Builder
	for i, l := range columnsOf(rows) {
		if i == 0 {
			l = v.paint(bold, l)
		}
		b.WriteString(l + "\n")
	}
	for _, x := range []struct {
		what      string
		now, last uint64
	}{{"own queries", now.own, last.own}, {"datagrams dropped", now.dropped, last.dropped}, {"senders asked for a sign", now.challenged, last.challenged}} {
		if x.now > 0 || x.what == "own queries" {
			fmt.Fprintf(&b, "  %s\n", strings.TrimRight(x.what+" "+grouped(x.now)+" "+rate(x.now, x.last), " "))
		}
	}
	return b.String()
}

// node is the routing tables and the lookups.
func (v *statusView) node() string {
	var b strings.Builder
	b.WriteString(v.title("Node"))
	for _, f := range v.Families {
		listen := make([]string, len(f.Listen))
		for i, a := range f.Listen {
			listen[i] = a.String()
		}
		line := fmt.Sprintf("  %s  %s  on %s", plain(f.Family), plain(f.ID), strings.Join(listen, ", "))
		if f.External != nil {
			line += ", seen as " + f.External.String()
		}
		b.WriteString(line + "\n")
		line = fmt.Sprintf("        %s of %s contacts good", grouped(uint64(f.Good)), grouped(uint64(f.Contacts)))
		if f.RTT > 0 {
			line += ", round trip " + seconds(f.RTT)
		}
		if f.NetworkSize >= 1 {
			line += ", about " + grouped(uint64(f.NetworkSize)) + " nodes in the network"
		}
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "  lookups %d, queries in flight %d", v.Lookups, v.InFlight)
	if len(v.Recursion.Allow) > 0 {
		fmt.Fprintf(&b, ", for clients %d", v.Recursion.UnderWay)
		for _, c := range v.Node {
			if c.Group == "recursion" && (c.Name == "found" || c.Name == "not found" || c.Name == "not finished in time") {
				fmt.Fprintf(&b, ", %s %s", c.Name, grouped(c.Value))
			}
		}
	}
	return b.String() + "\n"
}

// kernel is the kernel half.
func (v *statusView) kernel() string {
	x := v.XDP
	if x.Mode == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(v.title("Kernel half"))
	if !x.Active {
		b.WriteString("  not active: " + plain(x.Reason) + "\n")
	}
	for _, n := range x.NICs {
		if n.Wanted == "none" {
			continue
		}
		line := fmt.Sprintf("  %s (%s): %s", plain(n.Name), plain(cmp.Or(n.Driver, n.Kind, "no driver")), n.Mode)
		if n.Reason != "" {
			line += "; " + plain(n.Reason)
		}
		switch {
		case x.Recursion == nil || n.Paths == 0:
		case n.OnePath != "":
			line += "; recursion on one path: " + plain(n.OnePath)
		default:
			line += fmt.Sprintf("; recursion on %d paths", n.Paths)
		}
		b.WriteString(line + "\n")
	}
	if x.Active {
		fmt.Fprintf(&b, "  %s; knows %s of the keys held here, answers for %s hot ones\n", plain(x.Execution), grouped(uint64(x.Held.Known)), grouped(uint64(x.Hot.Keys)))
	}
	return b.String()
}

// stored is the store.
func (v *statusView) stored() string {
	s := v.Store
	if s.Path == "" {
		return ""
	}
	return v.title("Store") + fmt.Sprintf("  %s items, %s peers of %s infohashes; %s of %s, file %s\n",
		grouped(uint64(max(s.Items, 0))), grouped(uint64(max(s.Peers, 0))), grouped(uint64(max(s.Infohashes, 0))), size(float64(s.Bytes)), size(float64(s.MaxBytes)), size(float64(s.FileBytes)))
}

// shownEvents is how many of the events are shown.
const shownEvents = 5

func (v *statusView) events() string {
	var b strings.Builder
	b.WriteString(v.title("Events"))
	for _, e := range v.Events[:min(len(v.Events), shownEvents)] {
		colour := ""
		switch e.Level {
		case "WARN":
			colour = yellow
		case "ERROR":
			colour = red
		}
		b.WriteString("  " + e.Time.UTC().Format(time.DateTime+" MST") + "  " + v.paint(colour, fmt.Sprintf("%-5s", plain(e.Level))) + "  " + strings.TrimSpace(plain(e.Message+"  "+e.Detail)) + "\n")
	}
	return b.String()
}

func (v *statusView) section(s status.Section) string {
	if len(s.Facts) == 0 {
		return ""
	}
	rows := make([][]string, len(s.Facts))
	for i, f := range s.Facts {
		rows[i] = []string{"  " + plain(f.Name), plain(f.Value)}
	}
	width := 0
	for _, r := range rows {
		width = max(width, len([]rune(r[0])))
	}
	out := v.title(plain(s.Title))
	for _, r := range rows {
		out += fmt.Sprintf("%-*s  %s\n", width, r[0], r[1])
	}
	return out
}

// columnsOf aligns cells, the first column to the left, the others, which are numbers, to the right.
func columnsOf(rows [][]string) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], len(c))
		}
	}
	for _, r := range rows {
		line := fmt.Sprintf("%-*s", widths[0], r[0])
		for i, c := range r[1:] {
			line += fmt.Sprintf("  %*s", widths[i+1], c)
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// grouped writes a number with commas between groups of three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ago writes a duration with its one or two largest units.
func ago(d time.Duration) string {
	s := max(int64(d.Seconds()), 0)
	switch {
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 7200:
		return fmt.Sprintf("%d min", s/60)
	case s < 2*86400:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}
