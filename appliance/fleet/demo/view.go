package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"kdht/appliance/fleet"
	"kdht/appliance/status"
	"kdht/router/krpc"
)

// view is what the screen shows: the fleet's reports, and the rates between the last two of each.
type view struct {
	fleet   *fleet.Fleet
	clients *clients
	started time.Time
	rows    []row
}

// row is a node.
type row struct {
	report       *status.Report
	err          error
	kernel, user rate
}

// rate is a counter and its change per second.
type rate struct {
	total     uint64
	perSecond float64
	at        time.Time
}

func (r *rate) update(total uint64, at time.Time) {
	if d := at.Sub(r.at).Seconds(); !r.at.IsZero() && d > 0 && total >= r.total {
		r.perSecond = float64(total-r.total) / d
	}
	r.total, r.at = total, at
}

func newView(f *fleet.Fleet, c *clients) *view {
	return &view{fleet: f, clients: c, started: time.Now(), rows: make([]row, len(f.Nodes))}
}

// refresh asks all nodes for their state, at most for a second.
func (v *view) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range v.fleet.Nodes {
		wg.Go(func() {
			report, err := n.Status(ctx)
			r := &v.rows[i]
			if r.err = err; err != nil {
				return
			}
			r.report = report
			r.kernel.update(kernelAnswers(report), report.Time)
			r.user.update(userAnswers(report), report.Time)
		})
	}
	wg.Wait()
}

// kernelAnswers is the number of queries that the XDP program has answered.
func kernelAnswers(r *status.Report) (n uint64) {
	for _, c := range r.XDP.Counters {
		if c.Reason == "answered" {
			n += c.Packets
		}
	}
	return n
}

// userAnswers is the number of queries that the process has answered.
func userAnswers(r *status.Report) (n uint64) {
	for _, c := range r.Node {
		if c.Group == "query answered" {
			n += c.Value
		}
	}
	return n
}

// layout is how a node is written: wide where all nodes fit below each other, narrow for two columns on 80.
type layout struct {
	head   string
	format string // address, ID, contacts, rates, items
	digits int    // of the ID
}

var (
	wide   = layout{"address      node ID   v4  v6  kernel/s  user/s  items", "%-12s %-8s %3d %3d %9.1f %7.1f %6d", 8}
	narrow = layout{"address     ID   v4 v6  kern user item", "%-12s%-4s%3d%3d%6.0f%5.0f%5d", 4}
)

// line is a node as text.
func (v *view) line(i int, l layout) string {
	r, addr := v.rows[i], v.fleet.Nodes[i].Host.IPv4
	if r.report == nil || r.err != nil {
		return fmt.Sprintf("%-*s", len(l.head), fmt.Sprintf("%-12s does not answer", addr))
	}
	contacts := map[string]int{}
	id := ""
	for _, f := range r.report.Families {
		contacts[f.Family] = f.Contacts
		if f.Family == "IPv4" {
			id = f.ID[:l.digits]
		}
	}
	return fmt.Sprintf(l.format, addr, id, contacts["IPv4"], contacts["IPv6"], r.kernel.perSecond, r.user.perSecond,
		r.report.Store.Items)
}

// render is the picture, with eol after every line, cut to the screen.
func (v *view) render(width, height int, eol string) string {
	lines := []string{
		fmt.Sprintf("kdht: %d nodes, each in its own network namespace, for %v", len(v.rows),
			time.Since(v.started).Round(time.Second)),
		"",
	}
	foot := v.foot()
	// As many nodes as fit: in one column, else in two where the screen is wide enough.
	room := max(1, height-len(lines)-len(foot)-2)
	columns, l := 1, wide
	if len(v.rows) > room && width >= 2*len(narrow.head)+2 {
		columns, l = 2, narrow
	}
	perColumn := min(room, (len(v.rows)+columns-1)/columns)
	shown := min(len(v.rows), columns*perColumn)
	lines = append(lines, strings.Repeat(l.head+"  ", columns))
	for i := range perColumn {
		var b strings.Builder
		for j := i; j < shown; j += perColumn {
			b.WriteString(v.line(j, l) + "  ")
		}
		lines = append(lines, b.String())
	}
	if hidden := len(v.rows) - shown; hidden > 0 {
		foot[0] = fmt.Sprintf("... and %d more nodes on a larger screen", hidden)
	}
	lines = append(lines, foot...)
	lines = lines[:min(len(lines), height)]
	for i, line := range lines {
		line = strings.TrimRight(line, " ")
		// A command to paste stays whole; the terminal wraps it.
		if len(line) > width && !strings.HasPrefix(line, "  ip ") {
			line = line[:width]
		}
		lines[i] = line
	}
	if eol == "\n" {
		return strings.Join(lines, eol) + eol
	}
	return strings.Join(lines, eol) // a last line end would scroll
}

// foot is what stands below the nodes; its first line is free.
func (v *view) foot() []string {
	var kernel, user rate
	var attached, items int
	for _, r := range v.rows {
		if r.report == nil {
			continue
		}
		kernel.total += r.kernel.total
		kernel.perSecond += r.kernel.perSecond
		user.total += r.user.total
		user.perSecond += r.user.perSecond
		items += r.report.Store.Items
		if r.report.XDP.Active {
			attached++
		}
	}
	share := 0.0
	if sum := kernel.total + user.total; sum > 0 {
		share = 100 * float64(kernel.total) / float64(sum)
	}
	t := v.clients.tally()
	lines := []string{"",
		fmt.Sprintf("Answers: %.0f/s by the kernel, %.0f/s by user space; so far %d, %.0f %% kernel",
			kernel.perSecond, user.perSecond, kernel.total+user.total, share),
		fmt.Sprintf("XDP on %d nodes, %d copies of items; gets: %d found, %d not, last %v",
			attached, items, t.found, t.missing+t.failed, t.took.Round(time.Millisecond)),
	}
	if t.lastError != "" {
		lines = append(lines, "Last error: "+strings.ReplaceAll(t.lastError, "\n", " "))
	}
	first, last := v.fleet.Nodes[0], v.fleet.Nodes[len(v.fleet.Nodes)-1]
	binary := v.fleet.Binary
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, binary); err == nil && !strings.HasPrefix(rel, "..") {
			binary = rel
		}
	}
	in := func(n *fleet.Node) string { return "  ip netns exec " + n.Host.NS.Name() + " " + binary }
	return append(lines, "", "Ctrl-C ends and removes everything. Try, as root in another terminal:",
		in(first)+" put --bootstrap "+last.Addr4.String()+" hello",
		in(last)+" get --bootstrap "+first.Addr4.String()+" "+krpc.ImmutableTarget([]byte("5:hello")).String())
}
