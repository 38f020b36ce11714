package config

import (
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tailscale/hujson"
)

// whole is a whole number in a range.
type whole struct {
	min, max int
	unit     string // plural, as in "peers"
}

func (k whole) decode(v hujson.Value) (int, *fault) {
	n, f := numeral(v, "a "+k.about())
	if f != nil {
		return 0, f
	}
	if n != math.Trunc(n) {
		return 0, faultf(v.StartOffset, "write a whole number", "%s is not a whole number", literal(v))
	}
	if n < float64(k.min) || n > float64(k.max) {
		return 0, faultf(v.StartOffset, "allowed are "+k.span(), "%s is out of range", literal(v))
	}
	return int(n), nil
}

func (k whole) encode(x int) string              { return strconv.Itoa(x) }
func (k whole) span() string                     { return fmt.Sprintf("%d to %d %s", k.min, k.max, k.unit) }
func (k whole) about() string                    { return "number, " + k.span() }
func (k whole) text(words []string) hujson.Value { return numberValue(words) }

// rate is a number of events per second.
type rate struct {
	min, max float64
	unit     string // plural, as in "queries"
}

func (k rate) decode(v hujson.Value) (float64, *fault) {
	n, f := numeral(v, "a "+k.about())
	if f != nil {
		return 0, f
	}
	if n < k.min || n > k.max {
		return 0, faultf(v.StartOffset, "allowed are "+k.span(), "%s is out of range", literal(v))
	}
	return n, nil
}

func (k rate) encode(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
func (k rate) span() string {
	return k.encode(k.min) + " to " + k.encode(k.max) + " " + k.unit + " per second"
}
func (k rate) about() string                    { return "number, " + k.span() }
func (k rate) text(words []string) hujson.Value { return numberValue(words) }

// numeral reads a JSON number; of anything else it says what to write.
func numeral(v hujson.Value, instead string) (float64, *fault) {
	if v.Value.Kind() == '"' {
		if s := v.Value.(hujson.Literal).String(); jsonNumber.MatchString(s) {
			return 0, faultf(v.StartOffset, "write "+s+" without quotes", "the string %s is not a number", literal(v))
		}
	}
	if v.Value.Kind() != '0' {
		return 0, wrongType(v, "a number", instead)
	}
	n, err := strconv.ParseFloat(string(v.Value.(hujson.Literal)), 64)
	if err != nil {
		return 0, faultf(v.StartOffset, "write a smaller number", "%s is too large", literal(v))
	}
	return n, nil
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// size is a number of bytes.
type size struct{ min, max int64 }

var (
	sizeForm  = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)$`)
	sizeUnits = map[string]float64{
		"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
		"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}
)

func (k size) decode(v hujson.Value) (int64, *fault) {
	const help = `write a number and one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB, as in "64MiB"`
	var n float64
	switch v.Value.Kind() {
	case '0':
		f, bad := numeral(v, "")
		if bad != nil {
			return 0, bad
		}
		n = f
	case '"':
		m := sizeForm.FindStringSubmatch(v.Value.(hujson.Literal).String())
		if m == nil || sizeUnits[m[2]] == 0 {
			return 0, faultf(v.StartOffset, help, "%s is not a size", literal(v))
		}
		f, _ := strconv.ParseFloat(m[1], 64) // overlong numbers give +Inf, which is out of range
		n = f * sizeUnits[m[2]]
	default:
		return 0, wrongType(v, "a size", `a number of bytes with its unit, as in "64MiB"`)
	}
	if !(n >= float64(k.min) && n <= float64(k.max)) {
		return 0, faultf(v.StartOffset, "allowed are "+k.span(), "%s is out of range", literal(v))
	}
	if n != math.Trunc(n) {
		return 0, faultf(v.StartOffset, "write a whole number of bytes", "%s is not a whole number of bytes", literal(v))
	}
	return int64(n), nil
}

func (k size) encode(x int64) string {
	unit := "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if x == 0 || x%1024 != 0 {
			break
		}
		x, unit = x/1024, u
	}
	return quote(strconv.FormatInt(x, 10) + unit)
}

func (k size) span() string {
	return strings.ReplaceAll(k.encode(k.min)+" to "+k.encode(k.max), `"`, "")
}
func (k size) about() string                    { return "size, " + k.span() }
func (k size) text(words []string) hujson.Value { return numberValue(words) }

// duration is a length of time.
type duration struct{ min, max time.Duration }

var days = regexp.MustCompile(`^([0-9]{1,5})d(.*)$`)

func (k duration) decode(v hujson.Value) (time.Duration, *fault) {
	const help = `write numbers with ms, s, m, h or d, as in "90s" or "1h30m"`
	if v.Value.Kind() == '0' {
		return 0, faultf(v.StartOffset, fmt.Sprintf("write %q for seconds, or another of ms, s, m, h, d", literal(v)+"s"), "the number %s has no unit", literal(v))
	}
	s, f := str(v, "a duration", `a number with its unit, as in "90s"`)
	if f != nil {
		return 0, f
	}
	var d time.Duration
	rest := s
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // the pattern admits nothing that fails
		d, rest = time.Duration(n)*24*time.Hour, m[2]
	}
	if rest != "" {
		r, err := time.ParseDuration(rest)
		if err != nil {
			return 0, faultf(v.StartOffset, help, "%s is not a duration", literal(v))
		}
		d += r
	}
	if s == "" {
		return 0, faultf(v.StartOffset, help, "%s is not a duration", literal(v))
	}
	if d < k.min || d > k.max {
		return 0, faultf(v.StartOffset, "allowed are "+k.span(), "%s is out of range", literal(v))
	}
	return d, nil
}

func (k duration) encode(x time.Duration) string { return quote(spell(x)) }
func (k duration) span() string                  { return spell(k.min) + " to " + spell(k.max) }
func (k duration) about() string                 { return "duration, " + k.span() }
func (k duration) text(words []string) hujson.Value {
	return numberValue(words)
}

// spell writes a duration without the zero parts that time.Duration.String leaves at its end, whole days as days.
func spell(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if d != 0 && strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// level is the least severity that is logged.
type level struct{}

var levels = choice[string]{"debug", "info", "warn", "error"}

func (level) decode(v hujson.Value) (slog.Level, *fault) {
	s, f := levels.decode(v)
	if f != nil {
		return 0, f
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return 0, faultf(v.StartOffset, "write one of "+levels.words(), "%s", err)
	}
	return l, nil
}

func (level) encode(x slog.Level) string       { return quote(strings.ToLower(x.String())) }
func (level) about() string                    { return levels.about() }
func (level) text(words []string) hujson.Value { return stringValue(words) }
