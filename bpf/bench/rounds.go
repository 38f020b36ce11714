package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// pair is two slices of time, one right after the other: the bare reflector's and a subject's, under the same kind of
// query. The machine's speed drifts by tens of percent within seconds; within a pair it hardly does.
type pair struct{ reflector, subject figure }

// Ratios to the reflector of the same pair; more is better, 1 is as good as the reflector.
func (p pair) rateRatio() float64 { return p.subject.rate() / p.reflector.rate() }
func (p pair) cpuRatio() float64  { return p.reflector.micros() / p.subject.micros() }

// results holds the pairs by subject and kind.
type results map[string]map[string][]pair

// rounds measures all subjects in turn, several times.
func (r *rig) rounds(ctx context.Context) (results, error) {
	res := make(results)
	for round := range cli.Rounds {
		for _, s := range subjects() {
			if len(cli.Only) > 0 && !slices.Contains(cli.Only, s.name) {
				continue
			}
			r.log("round %d of %d: %s\n", round+1, cli.Rounds, s.name)
			if res[s.name] == nil {
				res[s.name] = make(map[string][]pair)
			}
			if err := r.turn(ctx, s, res[s.name]); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return res, nil
}

// turn measures one subject with every kind of query.
func (r *rig) turn(ctx context.Context, s subject, res map[string][]pair) (err error) {
	sw, err := s.start(r)
	if sw != nil {
		defer func() {
			if stopErr := sw.stop(); err == nil {
				err = stopErr
			}
		}()
	}
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if len(cli.Query) > 0 && !slices.Contains(cli.Query, k.name) {
			continue
		}
		if err := r.store(k); err != nil {
			return err
		}
		pairs, err := r.pairs(ctx, k, sw)
		if err != nil {
			return err
		}
		r.log("  %-10s %s of the reflector's answers/s, %s of its CPU\n", k.name,
			spreadOf(pairs, pair.rateRatio), spreadOf(pairs, pair.cpuRatio))
		res[k.name] = append(res[k.name], pairs...)
	}
	return nil
}

// pairs lets the reflector and a subject take turns, each being first as often as second.
func (r *rig) pairs(ctx context.Context, k kind, sw *turns) ([]pair, error) {
	m := r.newMeter(k)
	pairs := make([]pair, cli.Pairs)
	for i := range pairs {
		order := []*figure{&pairs[i].reflector, &pairs[i].subject}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, f := range order {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			turn, reflector := sw.subject, f == &pairs[i].reflector
			if reflector {
				turn = sw.reflector
			}
			if err := turn(); err != nil {
				return nil, err
			}
			var err error
			if *f, err = m.measure(reflector, cli.Slice); err != nil {
				return nil, err
			}
		}
	}
	return pairs, sw.subject()
}

// log says what goes on, on standard error.
func (r *rig) log(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) }

// spread is the median of some values, with the quartiles on either side.
type spread struct{ low, median, high float64 }

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.low, s.high) }

// spreadOf is that of what f takes from the pairs, or whatever they are.
func spreadOf[T any](pairs []T, f func(T) float64) spread {
	values := make([]float64, len(pairs))
	for i, p := range pairs {
		values[i] = f(p)
	}
	slices.Sort(values)
	at := func(share float64) float64 {
		if len(values) == 0 {
			return 0
		}
		x := share * float64(len(values)-1)
		i := int(x)
		j := min(i+1, len(values)-1)
		return values[i] + (x-float64(i))*(values[j]-values[i])
	}
	return spread{at(0.25), at(0.5), at(0.75)}
}

// figure is one slice of time of one subject.
type figure struct {
	load
	cpu time.Duration // of the node's side
}

// micros is the CPU time per answer in microseconds.
func (f figure) micros() float64 {
	return float64(f.cpu) / float64(time.Microsecond) / float64(max(1, f.answers))
}
