package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print writes the table: medians over all pairs, and ratios within the pairs with their quartiles.
func (res results) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "subject\tquery\tanswers/s\treflector's\tratio (quartiles)\tCPU µs each\treflector's\tratio (quartiles)\tlost %\tcomplete %\t")
	for _, s := range subjects() {
		for _, k := range kinds {
			pairs := res[s.name][k.name]
			if len(pairs) == 0 {
				continue
			}
			median := func(f func(pair) float64) float64 { return spreadOf(pairs, f).median }
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%s\t%.2f\t%.2f\t%s\t%.2f\t%.1f\t\n", s.name, k.name,
				median(func(p pair) float64 { return p.subject.rate() }),
				median(func(p pair) float64 { return p.reflector.rate() }), spreadOf(pairs, pair.rateRatio),
				median(func(p pair) float64 { return p.subject.micros() }),
				median(func(p pair) float64 { return p.reflector.micros() }), spreadOf(pairs, pair.cpuRatio),
				median(func(p pair) float64 { return 100 * float64(p.subject.lost) / float64(p.subject.lost+p.subject.answers) }),
				median(func(p pair) float64 { return 100 * float64(p.subject.complete) / float64(p.subject.answers) }))
		}
	}
	return t.Flush()
}
