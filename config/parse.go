package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

const (
	// maxFile bounds the size of a configuration file; the parser's recursion is bounded by it.
	maxFile = 256 << 10
	// maxErrors bounds the faults reported of one file; whoever has more has the wrong file.
	maxErrors = 20
)

// parser reads one file into a Builder.
type parser struct {
	b    *Builder
	name string
	data []byte
	errs Errors
}

// add records the faults of a value.
func (p *parser) add(key string, f *fault) {
	for ; f != nil && len(p.errs) < maxErrors; f = f.next {
		p.errs = append(p.errs, &Error{Origin: position(p.name, p.data, f.offset), Key: key, Msg: f.msg, Hint: f.hint})
	}
}

// file reads the whole file.
func (p *parser) file() Errors {
	if len(p.data) > maxFile {
		return Errors{{Origin: p.name, Msg: fmt.Sprintf("the file is larger than %d KiB", maxFile>>10), Hint: "is it a kdht configuration?"}}
	}
	p.data = bytes.Clone(p.data)
	if bytes.HasPrefix(p.data, []byte("\ufeff")) { // a byte order mark is invisible in editors
		copy(p.data, "   ")
	}
	if len(bytes.TrimSpace(p.data)) == 0 {
		return nil // everything has its default
	}
	v, err := hujson.Parse(p.data)
	if err != nil {
		return Errors{p.syntax(err)}
	}
	o, ok := v.Value.(*hujson.Object)
	if !ok {
		p.add("", faultf(v.StartOffset, `write { "listen": ["0.0.0.0:6881"] } or the like`, "the file is %s, not an object", describe(v)))
		return p.errs
	}
	p.object(o, "")
	return p.errs
}

var hujsonError = regexp.MustCompile(`^hujson: line (\d+), column (\d+): (.*)$`)

// syntax turns the parser's error into ours.
func (p *parser) syntax(err error) *Error {
	e := &Error{Origin: p.name, Msg: err.Error()}
	m := hujsonError.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if m == nil {
		return e
	}
	line, _ := strconv.Atoi(m[1]) // the pattern admits digits only
	col, _ := strconv.Atoi(m[2])
	offset := 0
	for range line - 1 {
		offset += bytes.IndexByte(p.data[offset:], '\n') + 1
	}
	offset += col - 1
	e.Origin, e.Msg = position(p.name, p.data, offset), m[3]
	at := byte(0)
	if offset < len(p.data) {
		at = p.data[offset]
	}
	letter := at >= 'a' && at <= 'z' || at >= 'A' && at <= 'Z'
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Msg, e.Hint = "the file ends too early", `is a closing } or ] or " missing?`
	case strings.Contains(e.Msg, "after object value") || strings.Contains(e.Msg, "after array value"):
		e.Hint = "is a comma missing before it?"
	case strings.Contains(e.Msg, "after object name"):
		e.Hint = "write a colon between key and value"
	case at == '\'':
		e.Hint = `write double quotes, as in "info"`
	case at == '#':
		e.Hint = "comments begin with //"
	case letter:
		e.Hint = `keys and texts stand in double quotes, as in "info"`
	case at == '=':
		e.Hint = "write a colon between key and value"
	default:
		e.Hint = "the file is JSON with comments and trailing commas"
	}
	return e
}

// object reads an object: the file, or one section of it. prefix is "" or "section.".
func (p *parser) object(o *hujson.Object, prefix string) {
	seen := make(map[string]int)
	for i := range o.Members {
		name, v := o.Members[i].Name, o.Members[i].Value
		leaf := word(name)
		full := prefix + leaf
		if first, dup := seen[leaf]; dup {
			at := position(p.name, p.data, first)
			p.add(full, faultf(name.StartOffset, "leave one of them out", "the key appears twice, first at %s", strings.TrimPrefix(at, p.name+":")))
			continue
		}
		seen[leaf] = name.StartOffset

		if k := keyNamed(full); k != nil && !strings.Contains(leaf, ".") {
			if f := k.decode(&p.b.cfg, v); f != nil {
				p.add(full, f)
				continue
			}
			p.b.origin[full] = fmt.Sprintf("%s:%d", p.name, 1+bytes.Count(p.data[:name.StartOffset], []byte("\n")))
			continue
		}
		if prefix == "" && isSection(leaf) {
			sub, ok := v.Value.(*hujson.Object)
			if !ok {
				p.add(leaf, wrongType(v, "an object", exampleOf(leaf)))
				continue
			}
			p.object(sub, leaf+".")
			continue
		}
		p.add("", faultf(name.StartOffset, suggest(prefix, leaf), "unknown key %s", shorten(full)))
	}
}

// isSection says whether name is a section.
func isSection(name string) bool {
	for _, s := range sections {
		if s.name == name {
			return true
		}
	}
	return false
}

// exampleOf writes a section with its first key.
func exampleOf(section string) string {
	for _, k := range keys {
		if s, leaf := k.split(); s == section {
			return fmt.Sprintf("%q: { %q: %s }", section, leaf, k.def)
		}
	}
	return "{}"
}

// suggest says what an unknown key was most likely meant to be.
func suggest(prefix, leaf string) string {
	var here, all []string
	leaves := make(map[string]*key)
	for _, k := range keys {
		section, l := k.split()
		if section+"." == prefix || section == "" && prefix == "" {
			here = append(here, l)
		}
		leaves[l] = k
		all = append(all, l)
	}
	if prefix == "" {
		for _, s := range sections {
			here = append(here, s.name)
		}
	}
	if n := Nearest(leaf, here); n != "" {
		return "did you mean " + quote(n) + "?"
	}
	elsewhere := keyNamed(leaf) // "xdp.mode" at the top level
	if elsewhere == nil {
		if n := Nearest(leaf, all); n != "" {
			elsewhere = leaves[n]
		}
	}
	if elsewhere == nil {
		return "the keys here are " + strings.Join(here, ", ")
	}
	if section, l := elsewhere.split(); section != "" {
		return fmt.Sprintf("did you mean %q: { %q: … }?", section, l)
	}
	return "did you mean " + quote(elsewhere.name) + " at the top level?"
}
