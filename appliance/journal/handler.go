package journal

import (
	"context"
	"encoding"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxValue bounds a message and each value, in bytes, and maxAttrs how many attributes are kept of one line: nobody
	// who sends us nonsense that is logged should fill the journal with one line.
	maxValue = 2 << 10
	maxAttrs = 64
)

// Handler keeps what is logged, and passes it on to another handler.
type Handler struct {
	journal *Journal
	next    slog.Handler
	prefix  string // of keys: the groups that are open
	attrs   []Attr // of every line
}

// Handler returns a handler that passes on to next what that wants, and keeps the same, and everything of INFO and above.
func (j *Journal) Handler(next slog.Handler) *Handler { return &Handler{journal: j, next: next} }

// Wrap returns a logger whose lines are kept, and where: the logger itself if it has a journal, else one with a new one.
func Wrap(log *slog.Logger) (*slog.Logger, *Journal) {
	if h, ok := log.Handler().(*Handler); ok {
		return log, h.journal
	}
	j := New(DefaultBytes)
	return slog.New(j.Handler(log.Handler())), j
}

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

// Handle implements [slog.Handler]. The error is that of the other handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	l := Line{Time: r.Time, Level: r.Level, Message: clip(r.Message), Attrs: slices.Clip(h.attrs)}
	if l.Time.IsZero() {
		l.Time = time.Now()
	}
	r.Attrs(func(a slog.Attr) bool {
		l.Attrs = flatten(l.Attrs, h.prefix, a)
		return len(l.Attrs) < maxAttrs
	})
	h.journal.add(l)
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.next = h.next.WithAttrs(attrs)
	with.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		with.attrs = flatten(with.attrs, h.prefix, a)
	}
	return &with
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.next, with.prefix = h.next.WithGroup(name), h.prefix+name+"."
	return &with
}

// flatten appends an attribute, and those of a group one by one.
func flatten(to []Attr, prefix string, a slog.Attr) []Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			to = flatten(to, prefix, m)
		}
		return to
	}
	if a.Key == "" && v.Equal(slog.Value{}) || len(to) >= maxAttrs {
		return to
	}
	private := false
	if v.Kind() == slog.KindAny {
		_, private = v.Any().(Private)
	}
	return append(to, Attr{prefix + a.Key, clip(text(v)), private})
}

// text writes a value as [slog.TextHandler] does, but for quotes. Values whose methods panic are not the journal's end.
func text(v slog.Value) (s string) {
	defer func() {
		if r := recover(); r != nil {
			s = fmt.Sprintf("!PANIC: %v", r)
		}
	}()
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case encoding.TextMarshaler:
			b, err := x.MarshalText()
			if err != nil {
				return "!ERROR: " + err.Error()
			}
			return string(b)
		case []byte:
			return string(x)
		default:
			return fmt.Sprintf("%+v", x)
		}
	default:
		return v.String()
	}
}

// clip makes valid UTF-8 of at most maxValue bytes of a text, which shares no memory with what it was cut from.
func clip(s string) string {
	if len(s) > maxValue {
		n := maxValue
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
