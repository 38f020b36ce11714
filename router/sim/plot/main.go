// Command plot draws what command scale has found, ../scale.json, as ../scale.svg.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// result is what is drawn of a result of package sim.
type result struct {
	Nodes, Bits int
	Alive       struct {
		FindNode struct{ Hops, Messages float64 }
	}
}

// Colours that can be told from a white and from a black page.
var (
	ink  = color.RGBA{0x7d, 0x85, 0x8f, 0xff}
	grid = color.NRGBA{0x7d, 0x85, 0x8f, 0x60}
	// lines are for b from 1 on.
	lines = []color.Color{
		color.RGBA{0xd9, 0x48, 0x41, 0xff},
		color.RGBA{0xd9, 0x82, 0x2b, 0xff},
		color.RGBA{0x2d, 0xa4, 0x4e, 0xff},
		color.RGBA{0x2f, 0x81, 0xf7, 0xff},
		color.RGBA{0xa3, 0x71, 0xf7, 0xff},
	}
)

func main() {
	if err := run("../scale.json", "../scale.svg"); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r struct{ Results []result }
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	panels := make([]*plot.Plot, 0, 2)
	for _, panel := range []struct {
		title string
		value func(result) float64
	}{
		{"hops of a lookup, mean", func(x result) float64 { return x.Alive.FindNode.Hops }},
		{"messages of a lookup, mean", func(x result) float64 { return x.Alive.FindNode.Messages }},
	} {
		p, err := newPanel(panel.title, r.Results, panel.value)
		if err != nil {
			return err
		}
		panels = append(panels, p)
	}
	c := vgsvg.New(8.5*vg.Inch, 3.4*vg.Inch)
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: 40, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 32}
	for i, row := range plot.Align([][]*plot.Plot{panels}, tiles, draw.New(c))[0] {
		panels[i].Draw(row)
	}
	var svg bytes.Buffer
	if _, err := c.WriteTo(&svg); err != nil {
		return err
	}
	// Not every machine has that font.
	out := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Helvetica,Arial,sans-serif"))
	return os.WriteFile(to, out, 0o644)
}

// newPanel draws a value over the number of nodes, on a logarithmic axis, with a line for each b.
func newPanel(title string, results []result, value func(result) float64) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.Title.Text = title
	p.X.Label.Text = "nodes"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powers{}
	p.Title.Padding, p.X.Padding, p.Y.Padding = 8, 0, 0
	for _, s := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		s.Color = ink
		s.Font.Size = 12
	}
	p.Title.TextStyle.Font.Size = 14
	for _, s := range []*draw.LineStyle{&p.X.LineStyle, &p.Y.LineStyle, &p.X.Tick.LineStyle, &p.Y.Tick.LineStyle} {
		s.Color = ink
	}
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = grid, grid
	p.Add(g)
	p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, 2.6*vg.Inch, 8 // at the right, and text to the right of its line
	byBits := make(map[int]plotter.XYs)
	for _, x := range results {
		byBits[x.Bits] = append(byBits[x.Bits], plotter.XY{X: float64(x.Nodes), Y: value(x)})
	}
	for b := 1; b <= len(lines); b++ {
		if byBits[b] == nil {
			continue
		}
		line, points, err := plotter.NewLinePoints(byBits[b])
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = lines[b-1], vg.Points(1.8)
		points.Color, points.Shape, points.Radius = lines[b-1], draw.CircleGlyph{}, vg.Points(2.6)
		p.Add(line, points)
		p.Legend.Add("b = "+strconv.Itoa(b), line, points)
	}
	p.Y.Min, p.Y.Max = 0, 1.1*p.Y.Max
	p.Y.Tick.Marker = plot.TickerFunc(func(lo, hi float64) (ticks []plot.Tick) {
		step := math.Max(1, math.Pow(10, math.Floor(math.Log10(hi/2))))
		for y := 0.0; y <= hi; y += step {
			ticks = append(ticks, plot.Tick{Value: y, Label: strconv.FormatFloat(y, 'f', 0, 64)})
		}
		return ticks
	})
	return p, nil
}

// powers marks powers of ten.
type powers struct{}

func (powers) Ticks(lo, hi float64) (ticks []plot.Tick) {
	for i, name := range []string{"1", "10", "100", "1k", "10k", "100k", "1M", "10M"} {
		x := 1.0
		for range i {
			x *= 10
		}
		if x >= lo && x <= hi {
			ticks = append(ticks, plot.Tick{Value: x, Label: name})
		}
	}
	return ticks
}
