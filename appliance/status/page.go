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

// page is the status page. It needs no script and loads nothing.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
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

// span writes a number of seconds with units, the two largest.
func span(seconds float64) string {
	s := int64(seconds)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}
