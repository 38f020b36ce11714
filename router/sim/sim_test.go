package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kdht/router/sim"
)

func run(t *testing.T, p sim.Plan) (all []sim.Result) {
	t.Helper()
	if err := p.Run(t.Context(), func(r sim.Result) { all = append(all, r) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// slope returns by how much y rises when the number of nodes is doubled, by least squares.
func slope(results []sim.Result, y func(sim.Result) float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, r := range results {
		x := math.Log2(float64(r.Nodes))
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y(r), sxx+x*x, sxy+x*y(r)
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// Lookups find exactly what they look for, and ten times the nodes cost a constant more.
func TestLookupsGrowWithLogN(t *testing.T) {
	for _, bits := range []int{1, 4} {
		all := run(t, sim.Plan{Nodes: []int{100, 1000, 10000}, Bits: []int{bits}, Dead: 0.2, Lookups: 100, Tables: 1, Seed: 7})
		for _, r := range all {
			t.Logf("%d nodes, b = %d: %+v, recursion %+v", r.Nodes, bits, r.Alive.FindNode, r.Alive.Recursion)
			a, levels := r.Alive, math.Log2(float64(r.Nodes))/float64(bits)
			for name, c := range map[string]sim.Cost{"find_node": a.FindNode, "get": a.Get, "recursion": a.Recursion} {
				if c.Right != 1 {
					t.Errorf("%d nodes, b = %d: only %v of %s were right", r.Nodes, bits, c.Right, name)
				}
				if float64(c.HopsP99) > levels+1 {
					t.Errorf("%d nodes, b = %d: %s takes %d hops, more than log2(n)/b + 1", r.Nodes, bits, name, c.HopsP99)
				}
			}
			if most := 8 * levels * math.Exp2(float64(bits-1)) * float64(bits); r.Table.Contacts > most {
				t.Errorf("%d nodes, b = %d: %v contacts, more than k for each bucket that can have any", r.Nodes, bits, r.Table.Contacts)
			}
			// With nobody gone a contact is pinged four times an hour at most, and has to be about as often.
			if per := r.Table.Pings / r.Table.Contacts; per < 2 || per > 4 {
				t.Errorf("%d nodes, b = %d: %.2f pings of a contact in an hour", r.Nodes, bits, per)
			}
			if d := r.Dead; d.Get.Right < 0.99 || d.Rescued.Right < 0.99 || d.Recursion.Right > 0.95 || d.FindNode.Share < 0.9 {
				t.Errorf("%d nodes, b = %d, a fifth of them dead: %+v", r.Nodes, bits, d)
			}
		}
		// Ten times the nodes cost so many hops at most, from wherever. What grows faster than the logarithm costs ever more.
		for i := 1; i < len(all); i++ {
			for name, hops := range map[string]float64{
				"find_node": all[i].Alive.FindNode.Hops - all[i-1].Alive.FindNode.Hops,
				"recursion": all[i].Alive.Recursion.Hops - all[i-1].Alive.Recursion.Hops,
			} {
				if hops > math.Log2(10)/float64(bits) {
					t.Errorf("b = %d: %s takes %.2f hops more in %d nodes than in %d", bits, name, hops, all[i].Nodes, all[i-1].Nodes)
				}
			}
		}
		for name, y := range map[string]func(sim.Result) float64{
			"messages": func(r sim.Result) float64 { return r.Alive.FindNode.Messages },
			"bytes":    func(r sim.Result) float64 { return r.Alive.FindNode.Bytes },
		} {
			if first, second := y(all[1])-y(all[0]), y(all[2])-y(all[1]); second > 1.25*first {
				t.Errorf("b = %d: %s rise by %.2f from 100 to 1,000 nodes, and by %.2f to 10,000", bits, name, first, second)
			}
		}
		if s := slope(all, func(r sim.Result) float64 { return r.Alive.FindNode.Hops }); s <= 0 || s > 1/float64(bits) {
			t.Errorf("b = %d: %.3f hops more for twice the nodes; want some, and at most 1/b", bits, s)
		}
	}
}

// The seed decides everything but the memory, which is measured; how many CPUs there are decides nothing.
func TestSameSeedSameResults(t *testing.T) {
	p := sim.Plan{Nodes: []int{300}, Bits: []int{3}, Dead: 0.2, Lookups: 50, Tables: 4, Seed: 1}
	with := func(cpus int) sim.Result {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
		r := run(t, p)[0]
		r.Table.Heap = 0
		return r
	}
	one, four := with(1), with(4)
	if d := cmp.Diff(one, four); d != "" {
		t.Errorf("with four CPUs it is another result: %s", d)
	}
	p.Seed = 2
	if other := with(1); cmp.Equal(one, other) {
		t.Error("another seed gives the same")
	}
}

func TestPlanIsChecked(t *testing.T) {
	good := sim.Plan{Nodes: []int{100}, Bits: []int{1}, Lookups: 1, Tables: 1}
	for name, change := range map[string]func(*sim.Plan){
		"no lookups":     func(p *sim.Plan) { p.Lookups = 0 },
		"no tables":      func(p *sim.Plan) { p.Tables = 0 },
		"few nodes":      func(p *sim.Plan) { p.Nodes = []int{100, 8} },
		"too many nodes": func(p *sim.Plan) { p.Nodes = []int{sim.MaxNodes + 1} },
		"b of 0":         func(p *sim.Plan) { p.Bits = []int{0} },
		"b of 6":         func(p *sim.Plan) { p.Bits = []int{6} },
		"all dead":       func(p *sim.Plan) { p.Dead = 1 },
		"no share":       func(p *sim.Plan) { p.Dead = math.NaN() },
	} {
		p := good
		change(&p)
		if err := p.Run(t.Context(), func(sim.Result) { t.Errorf("%s: there is a result", name) }); !errors.Is(err, sim.ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := good.Run(ctx, func(sim.Result) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// The product does not contain what only the simulation needs.
func TestProductIsWithoutSimulation(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "kdht/appliance/kdht").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "kdht/router\n") {
		t.Fatalf("not the packages of the product: %s", out)
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.HasPrefix(p, "gonum.org/") || strings.HasPrefix(p, "kdht/router/sim") {
			t.Errorf("the product contains %s", p)
		}
	}
}

// What is written for people is what make sim found.
func TestTablesAreThoseOfTheResults(t *testing.T) {
	b, err := os.ReadFile("scale.json")
	if err != nil {
		t.Fatal(err)
	}
	var r sim.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if last := r.Results[len(r.Results)-1]; last.Nodes < 1_000_000 || len(r.Results) != len(r.Plan.Nodes)*len(r.Plan.Bits) {
		t.Errorf("%d results, the last of %d nodes", len(r.Results), last.Nodes)
	}
	var md bytes.Buffer
	if err := r.WriteMarkdown(&md); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile("scale.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(written), md.String()); d != "" {
		t.Errorf("scale.md is not what scale.json says (-written +should be):\n%s", d)
	}
}
