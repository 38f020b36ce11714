package status_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kdht/appliance/status"
)

// rich is full with what no page shows, so that every metric has a value.
func rich() status.Report {
	r := full()
	at := time.Unix(5000, 0).UTC()
	r.Host.Memory, r.Host.MemoryAvailable = 1<<30, 1<<29
	r.Host.Disk = status.Disk{Path: "/perm", Size: 1 << 34, Free: 1 << 33}
	r.Host.Temperatures = []status.Temperature{{Name: "CPU thermal", Celsius: 47}, {Name: "cpu-thermal", Celsius: 48}}
	r.Recursion.Times = []status.TimeBucket{{Within: 0.01, Count: 3}, {Within: 0.1, Count: 2}, {Count: 1}}
	r.Recursion.TimeSum, r.Recursion.Hops = 0.75, []uint64{4, 2}
	r.XDP.Recursion = &status.KernelRecursion{Replied: 5, Late: 1, Hops: []uint64{0, 6}}
	r.Node = append(r.Node, status.Counter{Group: "http request", Name: "served", Value: 3})
	r.Log = status.Log{Debug: 1, Info: 2, Warn: 3, Error: 4, Forgotten: 5}
	r.Store.OldestItem = 60
	r.Update = &status.Update{Trial: true}
	r.Tailnet = &status.Tailnet{State: "connected", Expiry: &at}
	return r
}

// sampled are the metrics of a scrape, each with the names of its labels.
func sampled(t *testing.T, text string) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? \S+\n$`).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no sample: %q", line)
		}
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(all[m[1]], l[1]) {
				all[m[1]] = append(all[m[1]], l[1])
			}
		}
		if _, ok := all[m[1]]; !ok {
			all[m[1]] = nil
		}
	}
	return all
}

// Names, units and labels are as Prometheus' users expect them (https://prometheus.io/docs/practices/naming/).
func TestMetricsAreWellNamed(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z0-9_.]*$`)
	for name, r := range map[string]status.Report{"rich": rich(), "empty": {}} {
		text := get(t, r, "/metrics", "").Body.String()
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "kdht_") || strings.HasPrefix(line, "kdht_build_info") {
				continue
			}
			for _, l := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
				if !snake.MatchString(l[2]) && l[2] != "+Inf" {
					t.Errorf("%s: the value %q of %s is not in snake case: %s", name, l[2], l[1], line)
				}
			}
		}
	}
}

func TestMetricsOfEverything(t *testing.T) {
	text := get(t, rich(), "/metrics", "").Body.String()
	for _, want := range []string{
		`kdht_recursion_duration_seconds_bucket{le="0.01"} 3`, `kdht_recursion_duration_seconds_bucket{le="0.1"} 5`,
		`kdht_recursion_duration_seconds_bucket{le="+Inf"} 6`, `kdht_recursion_duration_seconds_sum 0.75`, `kdht_recursion_duration_seconds_count 6`,
		`kdht_recursion_hops_total{hops="1"} 2`, `kdht_kernel_recursion_hops_total{hops="1"} 6`,
		`kdht_host_memory_available_bytes 5.36870912e+08`, `kdht_host_disk_free_bytes 8.589934592e+09`, `kdht_host_temperature_celsius{sensor="cpu_thermal"} 47`,
		`kdht_log_lines_total{level="warn"} 3`, `kdht_log_lines_forgotten_total 5`, `kdht_update_trial 1`, `kdht_tailnet_connected 1`,
		`kdht_tailnet_key_expiry_timestamp_seconds 5000`, `kdht_store_oldest_item_age_seconds 60`, `kdht_events_total{event="served",group="http_request"} 3`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	// What is not known is not there: a temperature of 0 or an expiry in 1970 would be wrong.
	for line := range strings.Lines(get(t, status.Report{}, "/metrics", "").Body.String()) {
		if m := regexp.MustCompile(`^kdht_(host|tailnet|update)_`).FindString(line); m != "" {
			t.Errorf("nothing is known, and there is %s", line)
		}
	}
}

// Every query of the dashboard asks for metrics that there are, by labels that they have.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	r := get(t, rich(), "/grafana.json", "")
	if r.Code != 200 || r.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", r.Code, r.Header())
	}
	var doc struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr, LegendFormat string }
			GridPos struct{ X, Y, W, H int }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(r.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	metrics := sampled(t, get(t, rich(), "/metrics", "").Body.String())
	used := make(map[string]bool)
	query := func(where, expr, legend string) {
		names := regexp.MustCompile(`\b(kdht|process|go)_[a-z0-9_]+`).FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing: %s", where, expr)
		}
		var labels []string
		for _, n := range names {
			used[n] = true
			if _, ok := metrics[n]; !ok {
				t.Errorf("%s: there is no %s", where, n)
			}
			labels = append(labels, metrics[n]...)
		}
		for _, m := range regexp.MustCompile(`\b([a-z0-9_]+)\{([^}]*)\}`).FindAllStringSubmatch(expr, -1) {
			for _, l := range regexp.MustCompile(`(\w+)(=~|!=|=)"`).FindAllStringSubmatch(m[2], -1) {
				if l[1] != "instance" && !slices.Contains(metrics[m[1]], l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
		by := regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(expr, -1)
		shown := regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1)
		for _, g := range append(by, shown...) {
			for _, l := range strings.Split(g[1], ", ") {
				if l != "instance" && !slices.Contains(labels, l) {
					t.Errorf("%s: none of %s has a label %s", where, names, l)
				}
			}
		}
		if n := strings.Count(expr, "(") - strings.Count(expr, ")"); n != 0 {
			t.Errorf("%s: %d brackets are open: %s", where, n, expr)
		}
	}
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range doc.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("%s: its ID is another's, or it shows nothing", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if o := taken[[2]int{x, y}]; o != "" || x >= 24 {
					t.Fatalf("%s is over %s or beyond the edge", p.Title, o)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for i, q := range p.Targets {
			query(fmt.Sprintf("%s %d", p.Title, i), q.Expr, q.LegendFormat)
		}
	}
	for _, v := range doc.Templating.List {
		if v.Definition != "" {
			query(v.Name, v.Definition, "")
		}
	}
	if len(used) < 20 {
		t.Errorf("it asks for %d metrics only: %v", len(used), slices.Sorted(maps.Keys(used)))
	}
}
