package config

import (
	"fmt"
	"strings"

	"github.com/tailscale/hujson"
)

// list is a list of values of one kind, no two alike.
type list[T comparable] struct {
	elem    kind[T]
	what    string                       // plural, as in "addresses"
	example string                       // as in the file
	none    string                       // word that stands for the empty list; empty: the list may not be empty
	max     int                          // bound of the length
	more    func(string) []T             // shorthands: a word that stands for several elements; nil: it stands for itself
	secret  bool                         // no message has an element
	also    func([]T) (msg, hint string) // further rule; empty: fulfilled
}

func (k list[T]) decode(v hujson.Value) ([]T, *fault) {
	values := []hujson.Value{v} // a single value needs no brackets
	if a, ok := v.Value.(*hujson.Array); ok {
		values = a.Elements
	} else if v.Value.Kind() != '"' {
		return nil, wrongType(v, "a list", k.example)
	}
	if k.none != "" && len(values) == 1 && word(values[0]) == k.none {
		return nil, nil
	}
	if len(values) == 0 && k.none == "" {
		return nil, faultf(v.StartOffset, "write at least one, as in "+k.example, "the list is empty")
	}
	if len(values) > k.max {
		return nil, faultf(values[k.max].StartOffset, fmt.Sprintf("at most %d are allowed", k.max), "%d %s are too many", len(values), k.what)
	}
	var out []T
	var first *fault // of a chain, one for each bad element
	last := &first
	seen := make(map[T]bool)
	for _, e := range values {
		xs, f := k.element(e)
		for _, x := range xs {
			if seen[x] && f == nil {
				what := strings.Trim(k.elem.encode(x), `"`)
				if k.secret {
					what = "this"
				}
				f = faultf(e.StartOffset, "leave one of them out", "%s is listed twice", what)
			}
			seen[x] = true
			out = append(out, x)
		}
		if f != nil {
			*last, last = f, &f.next
		}
	}
	if first != nil {
		return nil, first
	}
	if k.also != nil {
		if msg, hint := k.also(out); msg != "" {
			return nil, &fault{offset: v.StartOffset, msg: msg, hint: hint}
		}
	}
	return out, nil
}

// element reads one element, which may be a shorthand for several.
func (k list[T]) element(e hujson.Value) ([]T, *fault) {
	if k.none != "" && word(e) == k.none {
		return nil, faultf(e.StartOffset, "write it alone, or leave it out", "%q stands among other %s", k.none, k.what)
	}
	if k.more != nil && e.Value.Kind() == '"' {
		if xs := k.more(word(e)); xs != nil {
			return xs, nil
		}
	}
	x, f := k.elem.decode(e)
	if f != nil {
		return nil, f
	}
	return []T{x}, nil
}

// word is the text of a string, "" for any other value.
func word(v hujson.Value) string {
	if v.Value.Kind() != '"' {
		return ""
	}
	return v.Value.(hujson.Literal).String()
}

func (k list[T]) encode(xs []T) string {
	words := make([]string, len(xs))
	for i, x := range xs {
		words[i] = k.elem.encode(x)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (k list[T]) about() string {
	s := fmt.Sprintf("list of up to %d: %s", k.max, k.elem.about())
	if k.none != "" {
		s += "; or " + quote(k.none)
	}
	return s
}

func (k list[T]) text(words []string) hujson.Value {
	a := &hujson.Array{}
	for _, w := range words {
		a.Elements = append(a.Elements, k.elem.text([]string{w}))
	}
	return hujson.Value{Value: a}
}
