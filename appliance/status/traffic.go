package status

import (
	"fmt"
	"html/template"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"kdht/appliance/history"
	"kdht/appliance/status/chart"
)

// figure is a chart with its legend.
type figure struct {
	Title  string
	Legend []legend
	SVG    template.HTML
}

// legend names a line and gives its newest value.
type legend struct{ Class, Name, Now string }

// line is a line of a figure: the sum of some metrics.
type line struct {
	class, name string
	metrics     []history.Metric
	factor      float64
}

// figures are what is drawn of each span.
var figures = []struct {
	id, title string
	lines     []line
	unit      string
	format    func(float64) string
	least     float64
}{
	{"rates", "Answered and dropped", []line{
		{"kernel", "kernel", []history.Metric{history.Kernel}, 1},
		{"user", "user space", []history.Metric{history.User}, 1},
		{"dropped", "dropped", []history.Metric{history.KernelDropped, history.UserDropped}, 1},
	}, "per second", rate, 0.4},
	{"work", "Asked by clients and by us", []line{
		{"kernel", "recursions", []history.Metric{history.Recursions}, 1},
		{"user", "our queries", []history.Metric{history.Sent}, 1},
	}, "per second", rate, 0.4},
	{"rtt", "Round trip", []line{
		{"kernel", "IPv4", []history.Metric{history.RTT4}, 1000},
		{"fourth", "IPv6", []history.Metric{history.RTT6}, 1000},
	}, "ms", significant, 1},
}

// values is a line's values, NaN where there are none.
func (l line) values(s history.Span) []float64 {
	var out []float64
	for _, m := range l.metrics {
		for i, v := range s.Of(m) {
			if i == len(out) {
				out = append(out, math.NaN())
			}
			if v.Known() {
				if math.IsNaN(out[i]) {
					out[i] = 0
				}
				out[i] += float64(v) * l.factor
			}
		}
	}
	return out
}

// maxDrawn bounds the values of a line in a chart; more cannot be told apart.
const maxDrawn = 300

// drawn takes means so that there are few enough.
func drawn(v []float64) []float64 {
	n := (len(v) + maxDrawn - 1) / maxDrawn
	if n <= 1 {
		return v
	}
	var out []float64
	for i := 0; i < len(v); i += n {
		out = append(out, mean(v[i:min(i+n, len(v))]))
	}
	return out
}

// mean is that of what is known.
func mean(v []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range v {
		if !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// draw draws a span.
func draw(s history.Span, name string, labels []string, log *slog.Logger) (all []figure) {
	for _, f := range figures {
		out := figure{Title: f.title + ", " + f.unit}
		c := chart.Chart{ID: name + "-" + f.id, Title: f.title + ", " + name, Labels: labels, Format: axis, Least: f.least}
		for _, l := range f.lines {
			v := l.values(s)
			if len(v) < 2 {
				continue
			}
			newest := v[len(v)-1]
			out.Legend = append(out.Legend, legend{l.class, l.name, f.format(newest)})
			most := math.NaN()
			for _, x := range v {
				if math.IsNaN(most) || x > most {
					most = x
				}
			}
			c.Description += fmt.Sprintf("%s: now %s, on average %s, at most %s %s. ", l.name, f.format(newest), f.format(mean(v)), f.format(most), f.unit)
			c.Lines = append(c.Lines, chart.Line{Class: l.class, Values: drawn(v)})
		}
		if c.Lines != nil {
			var err error
			if out.SVG, err = c.SVG(); err != nil {
				log.Warn("a chart of the status page cannot be drawn", "err", err)
			}
		}
		all = append(all, out)
	}
	return all
}

// axis writes the values of an axis, which are round.
func axis(f float64) string {
	for _, u := range []struct {
		at   float64
		unit string
	}{{1e6, "M"}, {1e3, "k"}} {
		if f >= u.at {
			return strconv.FormatFloat(f/u.at, 'g', 4, 64) + u.unit
		}
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// charts draws the past, that of the day once in a while.
type charts struct {
	log *slog.Logger

	mu  sync.Mutex
	day []figure
	at  time.Time // of day
}

// dayDrawn is how long a drawing of the last day is good enough.
const dayDrawn = time.Minute

func (c *charts) draw(h history.History) (minutes, day []figure) {
	minutes = draw(h.Minutes, "last ten minutes", []string{"10 min ago", "5 min", "now"}, c.log)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.day == nil || time.Since(c.at) > dayDrawn {
		c.day, c.at = draw(h.Day, "last day", []string{"24 h ago", "18 h", "12 h", "6 h", "now"}, c.log), time.Now()
	}
	return minutes, c.day
}

// past is a span as a table.
type past struct {
	Caption string
	Columns []string
	Rows    []pastRow
}

type pastRow struct {
	Ago    string
	Values []string
}

// tabulate gives means of n parts of a span, the newest first.
func tabulate(s history.Span, caption string, n int, ago func(i int) string) past {
	p := past{Caption: caption}
	var columns [][]string
	for _, f := range figures {
		for _, l := range f.lines {
			p.Columns = append(p.Columns, l.name+", "+map[string]string{"per second": "/s"}[f.unit]+map[bool]string{true: f.unit}[f.unit != "per second"])
			v := l.values(s)
			part := len(v) / n
			cells := make([]string, n)
			for i := range cells {
				end := len(v) - i*part
				cells[i] = f.format(mean(v[max(end-part, 0):end]))
			}
			columns = append(columns, cells)
		}
	}
	for i := range n {
		row := pastRow{Ago: ago(i)}
		for _, c := range columns {
			row.Values = append(row.Values, c[i])
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

func (v view) Minutes() []figure { return v.minutes }
func (v view) Day() []figure     { return v.day }

// DayKnown reports whether there is anything of the last day, by this process or the one before.
func (v view) DayKnown() bool {
	return slices.ContainsFunc(v.past.Day.Series, func(s history.Series) bool { return slices.ContainsFunc(s.Values, history.Value.Known) })
}

// MinutesTable is the last ten minutes, a row for each.
func (v view) MinutesTable() past {
	return tabulate(v.past.Minutes, "Means of each of the last ten minutes", 10, func(i int) string { return fmt.Sprintf("%d to %d min", i, i+1) })
}

// DayTable is the last day, a row for each hour.
func (v view) DayTable() past {
	return tabulate(v.past.Day, "Means of each of the last 24 hours", 24, func(i int) string { return fmt.Sprintf("%d to %d h", i, i+1) })
}
