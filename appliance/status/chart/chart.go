// Package chart draws line charts as SVG for pages: in the colours of their style sheet, with text of their own font, without
// attributes that a strict content security policy forbids, and with a title and a description for those who do not see.
package chart

import (
	"encoding/xml"
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-analyze/charts"
)

// Size of a chart in its own units: two for each CSS pixel at the size at which it is meant to be shown, so that lines are
// smooth though coordinates are whole numbers.
const (
	Width  = 800
	Height = 400
)

const (
	// fontSize is what the library writes with, in points: as small as can be, since it draws every letter to measure texts, which
	// takes time and megabytes. What it has written is placed anew.
	fontSize = 1
	// textHeight and textWidth are of what people see, at 24 units (the style sheet says so): of a digit, about.
	textHeight = 18
	textWidth  = 14
)

// Chart is some lines over the same places, at equal distances.
type Chart struct {
	ID          string // in the page
	Title       string
	Description string   // what a reader of the picture would see, in words
	Labels      []string // along the axis below, from its left end to its right end, at equal distances
	Lines       []Line
	Format      func(float64) string // writes values of the axis to the left
	Least       float64              // the axis to the left goes at least so far
}

// Line is one of them. Its class decides the colour, in the style sheet.
type Line struct {
	Class  string
	Values []float64 // NaN where there is none
}

// The library knows colours, the page knows classes. So parts are drawn in colours that name them.
var (
	gridColor = charts.Color{R: 2, A: 255}
	axisColor = charts.Color{R: 3, A: 255}
	textColor = charts.Color{R: 4, A: 255}
)

const (
	gridStroke = "rgb(2,0,0)"
	axisStroke = "rgb(3,0,0)"
)

func lineColor(i int) charts.Color { return charts.Color{R: 1, B: uint8(i), A: 255} }

func lineStroke(i int) string { return fmt.Sprintf("rgb(1,0,%d)", i) }

// SVG draws the chart. Lines must have the same number of values, at least two.
func (c Chart) SVG() (template.HTML, error) {
	values, colors, most := make([][]float64, len(c.Lines)), make([]charts.Color, len(c.Lines)), c.Least
	for i, l := range c.Lines {
		values[i], colors[i] = make([]float64, len(l.Values)), lineColor(i)
		for j, v := range l.Values {
			if math.IsNaN(v) {
				v = charts.GetNullValue()
			} else {
				most = max(most, v)
			}
			values[i][j] = v
		}
		seen(values[i])
	}
	// The library picks labels among one for each value.
	labels := make([]string, len(values[0]))
	for i := range labels {
		labels[i] = c.Labels[int(math.Round(float64(i)/float64(len(labels)-1)*float64(len(c.Labels)-1)))]
	}
	theme := charts.MakeTheme(charts.ThemeOption{
		AxisStrokeColor: axisColor, AxisSplitLineColor: gridColor, BackgroundColor: charts.ColorTransparent, TextColor: textColor,
		SeriesColors: colors,
	})
	widest := 0
	for i := range steps + 1 {
		widest = max(widest, utf8.RuneCountInString(c.Format(round(most)/steps*float64(i))))
	}
	font := charts.FontStyle{FontSize: fontSize, FontColor: textColor}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: Width, Height: Height, Theme: theme})
	if err := p.LineChart(charts.LineChartOption{
		Theme:           theme,
		Padding:         charts.Box{Left: 10 + widest*textWidth, Top: 20, Right: 12, Bottom: 18 + textHeight},
		SeriesList:      charts.NewSeriesListLine(values),
		Symbol:          charts.Symbol{Shape: charts.SymbolNone},
		LineStrokeWidth: 3,
		XAxis:           charts.XAxisOption{Labels: labels, LabelCount: len(c.Labels), BoundaryGap: charts.Ptr(false), LabelFontStyle: font},
		YAxis: []charts.YAxisOption{{
			Min: charts.Ptr(0.0), Max: charts.Ptr(round(most)), LabelCount: steps + 1, LabelFontStyle: font, ValueFormatter: c.Format,
		}},
		Legend: charts.LegendOption{Show: charts.Ptr(false)},
	}); err != nil {
		return "", err
	}
	b, err := p.Bytes()
	if err != nil {
		return "", err
	}
	return c.restyle(b)
}

// seen makes a value alone, of which the library draws nothing, a short line.
func seen(v []float64) {
	null := charts.GetNullValue()
	for i, x := range v {
		before, after := i == 0 || v[i-1] == null, i == len(v)-1 || v[i+1] == null
		switch {
		case x == null || !before || !after || len(v) < 2:
		case i > 0:
			v[i-1] = x
		default:
			v[1] = x
		}
	}
}

// steps is how many parts the axis to the left has.
const steps = 4

// round gives the least end of the axis that is not below a value and can be parted well.
func round(most float64) float64 {
	if most <= 0 || math.IsInf(most, 0) {
		return steps
	}
	unit := math.Pow(10, math.Floor(math.Log10(most/steps)))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if end := f * unit * steps; end >= most*(1-1e-9) {
			return end
		}
	}
	return 10 * unit * steps // not reached
}

// element is a path or a text of what the library has drawn.
type element struct {
	XMLName xml.Name
	D       string `xml:"d,attr"`
	Style   string `xml:"style,attr"`
	Text    string `xml:",chardata"`
}

// style returns one property of an element.
func (e element) style(name string) string {
	for _, p := range strings.Split(e.Style, ";") {
		if k, v, ok := strings.Cut(p, ":"); ok && k == name {
			return v
		}
	}
	return ""
}

// restyle writes what the library has drawn with classes for colours.
func (c Chart) restyle(svg []byte) (template.HTML, error) {
	var doc struct {
		Elements []element `xml:",any"`
	}
	if err := xml.Unmarshal(svg, &doc); err != nil {
		return "", fmt.Errorf("chart: %w", err)
	}
	class := make(map[string]string)
	for i, l := range c.Lines {
		class[lineStroke(i)] = "line " + l.Class
	}
	var b strings.Builder
	id := html.EscapeString(c.ID)
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="%s-t" aria-describedby="%s-d">`, Width, Height, id, id)
	fmt.Fprintf(&b, `<title id="%s-t">%s</title><desc id="%s-d">%s</desc>`, id, html.EscapeString(c.Title), id, html.EscapeString(c.Description))
	var grid, axis, ticks []string // paths of the same kind are one
	var left, below []string       // labels of the axes
	var heights []int              // of the lines that the labels to the left belong to
	var lines strings.Builder
	for _, e := range doc.Elements {
		switch stroke := e.style("stroke"); {
		case e.XMLName.Local == "text" && len(grid) == 0: // those to the left come before the lines
			left = append(left, e.Text)
		case e.XMLName.Local == "text":
			below = append(below, e.Text)
		case stroke == gridStroke:
			grid = append(grid, e.D)
			heights = append(heights, first(e.D)[1])
		case stroke == axisStroke && horizontal(e.D):
			axis = append(axis, e.D)
			heights = append(heights, first(e.D)[1])
		case stroke == axisStroke:
			ticks = append(ticks, e.D)
		case class[stroke] != "":
			fmt.Fprintf(&lines, `<path class="%s" d="%s"/>`, html.EscapeString(class[stroke]), compact(e.D))
		}
	}
	if len(heights) != len(left) || len(ticks) != len(below) || len(axis) != 1 {
		return "", fmt.Errorf("chart: the library draws otherwise: %d labels for %d lines, %d for %d ticks", len(left), len(heights), len(below), len(ticks))
	}
	fmt.Fprintf(&b, `<path class="grid" d="%s"/><path class="axis" d="%s"/>`, compact(grid...), compact(axis...))
	b.WriteString(lines.String())
	for i, text := range left {
		fmt.Fprintf(&b, `<text class="end" x="%d" y="%d">%s</text>`, first(axis[0])[0]-10, heights[i]+textHeight/2, html.EscapeString(text))
	}
	for i, text := range below {
		anchor := "mid"
		switch i {
		case 0:
			anchor = "start"
		case len(below) - 1:
			anchor = "end"
		}
		fmt.Fprintf(&b, `<text class="%s" x="%d" y="%d">%s</text>`, anchor, first(ticks[i])[0], Height-8, html.EscapeString(text))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()), nil // made of numbers, and texts that were escaped
}

// points returns the coordinates of a path of lines.
func points(d string) []string {
	return strings.Fields(commands.Replace(d))
}

var commands = strings.NewReplacer("M", " ", "L", " ")

// first returns where a path begins.
func first(d string) (at [2]int) {
	for i, p := range points(d) {
		if i == len(at) {
			break
		}
		at[i], _ = strconv.Atoi(p) // 0 is as good as any other for what is no number
	}
	return at
}

// horizontal says that a path of one line stays on its height.
func horizontal(d string) bool {
	p := points(d)
	return len(p) == 4 && p[1] == p[3]
}

// compact writes paths without needless spaces, and without points on the way from one to another at the same height.
func compact(paths ...string) string {
	var b strings.Builder
	for _, d := range paths {
		p := points(d)
		for i := 0; i+1 < len(p); i += 2 {
			x, y := p[i], p[i+1]
			if i > 0 && i+3 < len(p) && p[i-1] == y && p[i+3] == y {
				continue
			}
			if i == 0 {
				b.WriteByte('M')
			} else {
				b.WriteByte('L')
			}
			b.WriteString(x + " " + y)
		}
	}
	return b.String()
}
