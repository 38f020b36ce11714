package tools

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// Sizes of the picture of a lookup, in its own units.
const (
	wayWidth  = 640
	wayRow    = 16
	wayMargin = 12
)

// way draws a lookup: a column for each hop, in it a dot for each node that was heard of in time, tied to the node that named
// it. goal is the address of the node that the way leads to.
func way(rows []row, goal string) template.HTML {
	type place struct{ x, y int }
	last := make(map[string]row) // a node that was slow at first has two rows
	var order []string
	for _, r := range rows {
		if _, ok := last[r.Addr]; !ok {
			order = append(order, r.Addr)
		}
		last[r.Addr] = r
	}
	hops, tall := 0, 0
	columns := make(map[int]int)
	for _, a := range order {
		h := last[a].Hops
		hops = max(hops, h)
		columns[h]++
		tall = max(tall, columns[h])
	}
	if len(order) == 0 {
		return ""
	}
	height := tall*wayRow + 2*wayMargin
	at := func(hop, i, n int) place {
		x := wayMargin + (wayWidth-2*wayMargin)*(hop+1)/(hops+1)
		return place{x, height/2 + (2*i-n+1)*wayRow/2}
	}
	start := place{wayMargin, height / 2}
	places, seen := make(map[string]place), make(map[int]int)
	// The nearest are at the top of their column.
	slices.SortStableFunc(order, func(a, b string) int { return last[b].Bits - last[a].Bits })
	for _, a := range order {
		h := last[a].Hops
		places[a] = at(h, seen[h], columns[h])
		seen[h]++
	}
	from := func(r row) place {
		if p, ok := places[r.Referrer]; ok {
			return p
		}
		return start
	}
	curve := func(b *strings.Builder, p, q place) {
		fmt.Fprintf(b, "M%d %dC%d %d %d %d %d %d", p.x, p.y, (p.x+q.x)/2, p.y, (p.x+q.x)/2, q.y, q.x, q.y)
	}
	var edges, path, good, bad strings.Builder
	for _, a := range order {
		p := places[a]
		curve(&edges, from(last[a]), p)
		if last[a].Good {
			fmt.Fprintf(&good, "M%d %dh0", p.x, p.y)
		} else {
			fmt.Fprintf(&bad, "M%d %dl6 6m0-6-6 6", p.x-3, p.y-3)
		}
	}
	for r, n := last[goal], 0; r.Addr != "" && n <= hops; n++ {
		curve(&path, from(r), places[r.Addr])
		r = last[r.Referrer]
	}
	return template.HTML(fmt.Sprintf( // made of numbers
		`<svg class="way" viewBox="0 0 %d %d" role="img" aria-label="%d nodes, up to hop %d; the list above says who named whom"><path class="edge" d="%s"/><path class="path" d="%s"/><path class="silent" d="%s"/><path class="node" d="%s"/><circle class="self" cx="%d" cy="%d" r="6"/></svg>`,
		wayWidth, height, len(order), hops, edges.String(), path.String(), bad.String(), good.String(), start.x, start.y))
}
