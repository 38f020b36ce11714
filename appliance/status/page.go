package status

import (
	_ "embed"
	"fmt"
	"html/template"
	"strconv"
	"time"
)

//go:embed page.html
var pageText string

//go:embed style.html
var styleText string

// Style defines the template "style", which all pages begin with.
func Style(t *template.Template) *template.Template {
	template.Must(t.New("style").Parse(styleText))
	return t
}

// page is the status page. It needs no script and loads nothing.
var page = template.Must(Style(template.New("page")).Funcs(template.FuncMap{
	"count":  count,
	"plural": plural,
	"bytes":  bytes,
	"span":   span,
	"millis": func(s float64) string { return strconv.FormatFloat(s*1000, 'f', 1, 64) + " ms" },
	"round":  func(f float64) string { return count(int64(f)) },
	"since":  func(now, then time.Time) string { return span(now.Sub(then).Seconds()) },
	"answered": func(r Report) uint64 {
		var n uint64
		for _, c := range r.XDP.Counters {
			if c.Query != "" {
				n += c.Packets
			}
		}
		return n
	},
	"answeredHere": func(r Report) uint64 {
		var n uint64
		for _, c := range r.Node {
			if c.Group == "query answered" {
				n += c.Value
			}
		}
		return n
	},
	"recursions": func(r Report, what string) uint64 {
		for _, c := range r.Node {
			if c.Group == "recursion" && c.Name == what {
				return c.Value
			}
		}
		return 0
	},
}).Parse(pageText))

// count writes a number with thin spaces between groups of three digits.
func count(n any) string {
	s := fmt.Sprint(n)
	head := len(s) % 3
	if len(s) > 0 && s[0] == '-' {
		head = (len(s)-1)%3 + 1
	}
	out := s[:head]
	for i := head; i < len(s); i += 3 {
		if out != "" && out != "-" {
			out += "\u2009"
		}
		out += s[i : i+3]
	}
	return out
}

// plural writes a number of things.
func plural(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return "1 " + one
	}
	return count(n) + " " + many
}

// bytes writes a number of bytes with a unit.
func bytes(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f /= 1024; f < 1024 {
			break
		}
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + unit
}

// span writes a number of seconds with units, the two largest, the second only if it is not 0.
func span(seconds float64) string {
	s := int64(seconds)
	two := func(many int64, unit string, few int64, smaller string) string {
		if few == 0 {
			return fmt.Sprintf("%d %s", many, unit)
		}
		return fmt.Sprintf("%d %s %d %s", many, unit, few, smaller)
	}
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s/60%60, "min")
	}
	return two(s/86400, "d", s/3600%24, "h")
}
