package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// kind is one type of value: how it is read, written and described.
type kind[T any] interface {
	// decode reads a value of the file.
	decode(v hujson.Value) (T, *fault)
	// encode gives a value as it is written in the file.
	encode(x T) string
	// about names type, unit and range, as in "duration, 1s to 24h".
	about() string
	// text gives the words of a flag as the value they would be in the file.
	text(words []string) hujson.Value
}

// describe names the JSON type of a value for a message, with the value itself where it is short.
func describe(v hujson.Value) string {
	switch v.Value.Kind() {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 'n':
		return "null"
	case 't', 'f':
		return "the boolean " + literal(v)
	case '0':
		return "the number " + literal(v)
	default:
		return "the string " + literal(v)
	}
}

// literal is a literal as written, shortened for messages.
func literal(v hujson.Value) string {
	l, ok := v.Value.(hujson.Literal)
	if !ok {
		return ""
	}
	if s := string(l); len(s) <= 80 {
		return s
	}
	return strconv.Quote(string([]rune(l.String())[:min(60, len([]rune(l.String())))]) + "…")
}

// wrongType is the fault of a value whose JSON type is another than the key's.
func wrongType(v hujson.Value, want, example string) *fault {
	if v.Value.Kind() == 'n' {
		return faultf(v.StartOffset, "leave the key out to have its default", "null is not a value")
	}
	return faultf(v.StartOffset, "write "+example, "%s is not %s", describe(v), want)
}

// str reads a string.
func str(v hujson.Value, want, example string) (string, *fault) {
	if v.Value.Kind() != '"' {
		return "", wrongType(v, want, example)
	}
	return v.Value.(hujson.Literal).String(), nil
}

// quote writes a string as in the file.
func quote(s string) string { return string(hujson.String(s)) }

// stringValue is the value of a flag of a kind that is written as a string. Flags are parted at commas, which are its own.
func stringValue(words []string) hujson.Value {
	return hujson.Value{Value: hujson.String(strings.Join(words, ","))}
}

// numberValue is the value of a flag of a kind that is written as a number, or as a string when it is none.
func numberValue(words []string) hujson.Value {
	s := strings.Join(words, ",")
	if v, err := hujson.Parse([]byte(s)); err == nil && v.Value.Kind() == '0' {
		return hujson.Value{Value: v.Value}
	}
	return hujson.Value{Value: hujson.String(s)}
}

// choice is one of a few words.
type choice[T ~string] []T

func (k choice[T]) decode(v hujson.Value) (T, *fault) {
	s, f := str(v, "one of "+k.words(), quote(string(k[0])))
	if f != nil {
		return "", f
	}
	names := make([]string, len(k))
	for i, w := range k {
		if string(w) == s {
			return w, nil
		}
		names[i] = string(w)
	}
	hint := "write one of them"
	n := Nearest(s, names)
	for _, w := range names {
		if n == "" && (strings.HasPrefix(s, w) || len(s) > 2 && strings.HasPrefix(w, s)) { // "warning", "pub"
			n = w
		}
	}
	if n != "" {
		hint = "did you mean " + quote(n) + "?"
	}
	return "", faultf(v.StartOffset, hint, "%s is not one of %s", literal(v), k.words())
}

func (k choice[T]) encode(x T) string                { return quote(string(x)) }
func (k choice[T]) about() string                    { return "one of " + k.words() }
func (k choice[T]) text(words []string) hujson.Value { return stringValue(words) }

func (k choice[T]) words() string {
	names := make([]string, len(k))
	for i, w := range k {
		names[i] = quote(string(w))
	}
	return strings.Join(names, ", ")
}

// text is any string within limits of length, in bytes.
type text struct {
	what     string // "a directory"
	min, max int
	example  string
}

func (k text) decode(v hujson.Value) (string, *fault) {
	s, f := str(v, k.what, quote(k.example))
	if f != nil {
		return "", f
	}
	switch {
	case len(s) < k.min:
		return "", faultf(v.StartOffset, "leave the key out to have its default, or write "+k.what+" as in "+quote(k.example), "%q is too short", s)
	case len(s) > k.max:
		return "", faultf(v.StartOffset, fmt.Sprintf("at most %d bytes are allowed", k.max), "%d bytes are too long", len(s))
	case strings.ContainsRune(s, 0):
		return "", faultf(v.StartOffset, "remove it", "a zero byte is not allowed")
	}
	return s, nil
}

func (k text) encode(x string) string { return quote(x) }
func (k text) about() string {
	if k.min == 0 {
		return fmt.Sprintf("%s, up to %d bytes", k.what, k.max)
	}
	return k.what
}
func (k text) text(words []string) hujson.Value { return stringValue(words) }
