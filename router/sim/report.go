package sim

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Report is what is kept of a run: the plan, and a result for each network and b.
type Report struct {
	Plan    Plan
	Results []Result
}

// WriteMarkdown writes the report as tables.
func (r *Report) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.line("# Lookups in networks of %s to %s nodes", count(r.Results[0].Nodes), count(r.Results[len(r.Results)-1].Nodes))
	p.line("")
	p.line("Made by `make sim`; [doc.go](doc.go) says what is simulated. %s lookups of random targets by random nodes per row, seed %d. Hops are",
		count(r.Plan.Lookups), r.Plan.Seed)
	p.line("queries one after the other, median / 99th percentile; messages are queries and responses; bytes are those of both, with IPv4 and UDP")
	p.line("headers. b is how many bits of an ID the routing table tells apart at a time.")
	p.line("")
	p.line("## find_node, three queries at a time: the 8 closest nodes")
	p.line("")
	p.row("nodes", "b", "hops", "messages", "bytes", "exact", fmt.Sprintf("messages, %.0f %% dead", 100*r.Plan.Dead), "exact", "of the 8")
	p.rule(9)
	for _, x := range r.Results {
		a, d := x.Alive.FindNode, x.Dead.FindNode
		p.row(count(x.Nodes), count(x.Bits), hops(a), fixed(a.Messages), whole(a.Bytes), percent(a.Right), fixed(d.Messages), percent(d.Right), percent(d.Share))
	}
	p.line("")
	p.line("Nodes that have just died are still in the others' tables and answers, in the place of living ones: hence the inexact lookups.")
	p.line("")
	p.line("## get, of an item that the 8 closest nodes hold")
	p.line("")
	p.line("By lookup: three queries at a time, up to the first value. By recursion: one query at a time, as on one of the kernel half's paths, each to the closest")
	p.line("node of the answer before; user space takes over where nobody answers.")
	p.line("")
	p.row("nodes", "b", "lookup: hops", "messages", "recursion: hops", "messages", "bytes", "found by the kernel alone",
		fmt.Sprintf("%.0f %% dead: by the kernel alone", 100*r.Plan.Dead), "taken over", "messages", "lookup: messages")
	p.rule(12)
	for _, x := range r.Results {
		a, d := x.Alive, x.Dead
		p.row(count(x.Nodes), count(x.Bits), hops(a.Get), fixed(a.Get.Messages), hops(a.Recursion), fixed(a.Recursion.Messages), whole(a.Recursion.Bytes),
			percent(a.Recursion.Right), percent(d.Recursion.Right), percent(d.Rescued.Right), fixed(d.Rescued.Messages), fixed(d.Get.Messages))
	}
	p.line("")
	p.line("## A node among others with b = 1, as most are in the public network")
	p.line("")
	p.row("nodes", "b of the one", "find_node: hops", "messages", "exact", "get by lookup: hops", "messages", "recursion: hops", "mean", "messages")
	p.rule(10)
	for _, x := range r.Results {
		m := x.Mixed
		p.row(count(x.Nodes), count(x.Bits), hops(m.FindNode), fixed(m.FindNode.Messages), percent(m.FindNode.Right), hops(m.Get), fixed(m.Get.Messages),
			hops(m.Recursion), fixed(m.Recursion.Hops), fixed(m.Recursion.Messages))
	}
	p.line("")
	p.line("## The routing table of a node")
	p.line("")
	p.line("Memory is that of the table and of what answers are made from, in user space, measured. Upkeep is the most there can be: by the table's own rules,")
	p.line("with nobody coming, going or asking, in an hour. Whoever is heard of otherwise is not pinged.")
	p.line("")
	p.row("nodes", "b", "contacts", "memory, KiB", "pings/h", "refreshes/h", "messages/h", "bytes/s")
	p.rule(8)
	for _, x := range r.Results {
		t := x.Table
		p.row(count(x.Nodes), count(x.Bits), whole(t.Contacts), whole(t.Heap/1024), whole(t.Pings), whole(t.Refreshes), whole(t.Messages), whole(t.Bytes/3600))
	}
	return p.err
}

// printer keeps the first error of writing.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(cells ...string) { p.line("%s", "| "+strings.Join(cells, " | ")+" |") }

func (p *printer) rule(columns int) { p.line("%s", "|"+strings.Repeat(" --: |", columns)) }

// count writes a number with commas between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func whole(x float64) string { return count(int(x + 0.5)) }

func fixed(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

// percent says 100 only of all.
func percent(share float64) string {
	if share < 1 {
		return strconv.FormatFloat(min(100*share, 99.9), 'f', 1, 64) + " %"
	}
	return "100 %"
}

func hops(c Cost) string { return fmt.Sprintf("%d / %d", c.HopsMedian, c.HopsP99) }
