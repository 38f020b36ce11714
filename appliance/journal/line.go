package journal

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Line is one line of the log.
type Line struct {
	// Seq numbers the lines of one process from 1, without gaps.
	Seq     uint64     `json:"seq"`
	Time    time.Time  `json:"time"`
	Level   slog.Level `json:"level"` // "DEBUG", "INFO", "WARN", "ERROR" in JSON
	Message string     `json:"message"`
	Attrs   []Attr     `json:"attrs,omitempty"`
	// Missed counts the lines between the one before and this one that a reader of [Journal.Follow] did not get, because
	// they were forgotten before it came to them.
	Missed uint64 `json:"missed,omitempty"`
}

// Attr is what a line says beside its message. Names of groups are in front of the key, with a dot.
type Attr struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	private bool
}

// Private is a value of an attribute that is in the log, but not in what of the log others than its reader get to see: see
// [Line.Public].
type Private string

// Public gives the line without the values that are [Private].
func (l Line) Public() Line {
	if slices.ContainsFunc(l.Attrs, func(a Attr) bool { return a.private }) {
		l.Attrs = slices.Clone(l.Attrs)
		for i := range l.Attrs {
			if l.Attrs[i].private {
				l.Attrs[i].Value = "(not shown)"
			}
		}
	}
	return l
}

// String gives the line as [slog.TextHandler] does.
func (l Line) String() string {
	var b strings.Builder
	b.WriteString("time=" + l.Time.Format("2006-01-02T15:04:05.000Z07:00") + " level=" + l.Level.String() + " msg=" + word(l.Message))
	for _, a := range l.Attrs {
		b.WriteString(" " + word(a.Key) + "=" + word(a.Value))
	}
	return b.String()
}

// word quotes what could be taken for more than one word.
func word(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '=' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// overhead is what a line takes beside its text, and an attribute, in bytes.
const (
	overhead     = 112
	attrOverhead = 32
)

// size is what the line takes in memory, about, in bytes.
func (l Line) size() int {
	n := overhead + len(l.Message)
	for _, a := range l.Attrs {
		n += attrOverhead + len(a.Key) + len(a.Value)
	}
	return n
}
