package chart_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"kdht/appliance/status/chart"
)

func two(a, b []float64) chart.Chart {
	return chart.Chart{
		ID: "rates", Title: "Rates <of> & things", Description: "up to 3", Labels: []string{"−10 min", "−5", "now"},
		Lines:  []chart.Line{{Class: "kernel", Values: a}, {Class: "user", Values: b}},
		Format: func(f float64) string { return fmt.Sprintf("%g/s", f) },
	}
}

func draw(t testing.TB, c chart.Chart) string {
	t.Helper()
	svg, err := c.SVG()
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return string(svg)
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}

func wave(n int, high float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = high / 2 * (1 + math.Sin(float64(i)/10))
	}
	return v
}

func TestChartIsOfThePage(t *testing.T) {
	svg := draw(t, two(wave(300, 900), wave(300, 20)))
	for _, want := range []string{
		`<title id="rates-t">Rates &lt;of&gt; &amp; things</title>`, `<desc id="rates-d">up to 3</desc>`, `role="img"`, `aria-labelledby="rates-t"`,
		`class="line kernel"`, `class="line user"`, ">1000/s<", ">0/s<", ">−10 min<", ">now<",
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	if m := regexp.MustCompile(`style=|rgb\(|font|<script|href`).FindString(svg); m != "" {
		t.Errorf("%s in\n%s", m, svg)
	}
}

func TestGapIsNoLine(t *testing.T) {
	a := wave(100, 10)
	for i := 40; i < 60; i++ {
		a[i] = math.NaN()
	}
	svg := draw(t, two(a, wave(100, 10)))
	if n := strings.Count(svg, `class="line kernel"`); n != 2 {
		t.Errorf("%d pieces of a line with one gap", n)
	}
	none := make([]float64, 100)
	for i := range none {
		none[i] = math.NaN()
	}
	if svg := draw(t, two(none, none)); strings.Contains(svg, "class=\"line") || !strings.Contains(svg, ">4/s<") {
		t.Errorf("nothing was measured:\n%s", svg)
	}
	if svg := draw(t, two(make([]float64, 300), none)); strings.Count(svg, "L") > 20 || !strings.Contains(svg, "line kernel") {
		t.Errorf("a straight line takes %d bytes", len(svg))
	}
}

func TestValueAloneIsSeen(t *testing.T) {
	for _, at := range []int{0, 50, 99} {
		a := make([]float64, 100)
		for i := range a {
			a[i] = math.NaN()
		}
		a[at] = 7
		if svg := draw(t, two(a, wave(100, 10))); !regexp.MustCompile(`class="line kernel" d="M\d+ \d+L\d+ \d+"`).MatchString(svg) {
			t.Errorf("no line at %d in\n%s", at, svg)
		}
	}
}

func TestAxisEndsAtARoundNumber(t *testing.T) {
	for most, want := range map[float64]string{0.0007: "0.0008/s", 3: "4/s", 4: "4/s", 4.1: "8/s", 9: "10/s", 11: "20/s", 999_999: "1e+06/s"} {
		c := two([]float64{0, most}, []float64{0, 0})
		if svg := draw(t, c); !strings.Contains(svg, ">"+want+"<") {
			t.Errorf("up to %g, no %s in\n%s", most, want, svg)
		}
	}
	c := two([]float64{0, 1}, []float64{0, 0})
	c.Least = 40
	if svg := draw(t, c); !strings.Contains(svg, ">40/s<") {
		t.Errorf("the axis does not reach 40:\n%s", svg)
	}
}

func BenchmarkChart(b *testing.B) {
	c := two(wave(300, 900), wave(300, 20))
	for b.Loop() {
		draw(b, c)
	}
}
