package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// results holds the figures by subject and kind, one a round.
type results map[string]map[string][]figure

// rounds measures all subjects in turn, several times.
func (r *rig) rounds(ctx context.Context) (results, error) {
	res := make(results)
	for round := range cli.Rounds {
		for _, s := range subjects() {
			if len(cli.Only) > 0 && !slices.Contains(cli.Only, s.name) {
				continue
			}
			r.log("round %d of %d: %s\n", round+1, cli.Rounds, s.name)
			if err := r.turn(ctx, s, res); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return res, nil
}

// turn measures one subject with every kind of query.
func (r *rig) turn(ctx context.Context, s subject, res results) (err error) {
	stop, err := s.start(r)
	if stop != nil {
		defer func() {
			if stopErr := stop(); err == nil {
				err = stopErr
			}
		}()
	}
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := r.measure(k, s.echo, cli.Duration)
		if err != nil {
			return err
		}
		r.log("  %-10s %8.0f/s, %v of CPU each (%v)\n", k.name, f.rate(), f.cpu, f.load)
		if res[s.name] == nil {
			res[s.name] = make(map[string][]figure)
		}
		res[s.name][k.name] = append(res[s.name][k.name], f)
	}
	return nil
}

// log says what goes on, on standard error.
func (r *rig) log(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) }

// median of what f takes from the figures.
func median(figures []figure, f func(figure) float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	values := make([]float64, len(figures))
	for i := range figures {
		values[i] = f(figures[i])
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}

func cpuOf(f figure) float64 { return float64(f.cpu) / float64(time.Microsecond) }

// print writes the table: medians, and ratios to the reflector of the same run.
func (res results) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "subject\tquery\tanswers/s\tof reflector\tCPU µs each\treflector's CPU / its\tlost %\tcomplete %\t")
	for _, s := range subjects() {
		for _, k := range kinds {
			figures := res[s.name][k.name]
			if len(figures) == 0 {
				continue
			}
			base := res["reflector"][k.name]
			rate, cpu := median(figures, figure.rate), median(figures, cpuOf)
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t\n", s.name, k.name,
				rate, rate/median(base, figure.rate), cpu, median(base, cpuOf)/cpu,
				median(figures, func(f figure) float64 { return 100 * float64(f.lost) / float64(f.lost+f.answers) }),
				median(figures, func(f figure) float64 { return 100 * float64(f.complete) / float64(f.answers) }))
		}
	}
	return t.Flush()
}
