package status

import (
	"embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

//go:embed pages
var pageFiles embed.FS

// pages are the templates of the status page. It is complete without a script; parts of it, templates of their own, are sent
// again by [live] when they have changed.
var pages = template.Must(Frame(template.New("pages").Funcs(template.FuncMap{
	"count":   count,
	"plural":  plural,
	"one":     func(n any, one, many string) string { return strings.SplitN(plural(n, one, many), " ", 2)[1] },
	"bytes":   func(n any) string { return bytes(number(n)) },
	"span":    span,
	"rate":    rate,
	"ms":      func(seconds float64) string { return significant(seconds * 1000) },
	"round":   func(f float64) string { return count(int64(f)) },
	"since":   func(now, then time.Time) string { return span(now.Sub(then).Seconds()) },
	"when":    when,
	"percent": percent,
	"short":   func(key string) string { return key[:min(len(key), 10)] + "…" },
	"picture": func(f Family) template.HTML { return f.picture() },
})).ParseFS(pageFiles, "pages/status.html"))

// number makes an int64 of any kind of integer.
func number(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case uint64:
		return int64(n)
	}
	return 0
}

// count writes a number with narrow spaces, at which no line breaks, between groups of three digits.
func count(n any) string {
	s := fmt.Sprint(n)
	head := len(s) % 3
	if len(s) > 0 && s[0] == '-' {
		head = (len(s)-1)%3 + 1
	}
	out := s[:head]
	for i := head; i < len(s); i += 3 {
		if out != "" && out != "-" {
			out += "\u202f"
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

// rate writes a rate as exactly as anybody wants to know; a dash for none.
func rate(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case f == 0:
		return "0"
	case f < 0.05:
		return "<\u202f0.1"
	case f < 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return count(int64(math.Round(f)))
}

// significant writes three digits, or all before the point.
func significant(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case f >= 100:
		return count(int64(math.Round(f)))
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// when writes how long ago something was, or its date.
func when(now, then time.Time) string {
	switch d := now.Sub(then); {
	case d < 0:
		return then.UTC().Format(time.DateTime)
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return then.UTC().Format("Jan 2, 15:04")
}

// percent writes a share.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "–"
	}
	f := 100 * float64(part) / float64(whole)
	switch {
	case part == whole:
		return "all"
	case part == 0:
		return "none"
	case f > 99.9:
		return "99.9 %"
	case f > 0 && f < 0.1:
		return "0.1 %"
	case f < 10 || f > 90:
		return strconv.FormatFloat(f, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(f, 'f', 0, 64) + " %"
}
