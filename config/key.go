package config

import (
	"strings"

	"github.com/tailscale/hujson"
)

// key is one entry of the table of keys.
type key struct {
	name string // dotted, as in "xdp.mode"
	def  string // default, as in the file
	doc  string // what the user should know, in whole sentences

	hidden bool                          // it is not shown, to whomever
	redact func(c *Config) (text string) // writes the field without secrets; nil: it has none

	about  string                                 // type, unit and range
	decode func(c *Config, v hujson.Value) *fault // reads a value into its field
	encode func(c *Config) string                 // writes the field as in the file
	value  func(words []string) hujson.Value      // a flag's words as a value of the file
}

// entry joins a key to the field that holds it and the kind of its value.
func entry[T any](name string, k kind[T], def string, field func(*Config) *T, doc string) *key {
	return &key{
		name: name, def: def, doc: doc, about: k.about(),
		decode: func(c *Config, v hujson.Value) *fault {
			x, f := k.decode(v)
			if f == nil {
				*field(c) = x
			}
			return f
		},
		encode: func(c *Config) string { return k.encode(*field(c)) },
		value:  k.text,
	}
}

// secret marks a key whose value is shown to nobody.
func (k *key) secret() *key {
	k.hidden = true
	return k
}

// redacted gives a key a way to be shown without its secrets.
func (k *key) redacted(by func(c *Config) string) *key {
	k.redact = by
	return k
}

// split gives the section of a key, empty at the top level, and its name there.
func (k *key) split() (section, leaf string) {
	if s, l, ok := strings.Cut(k.name, "."); ok {
		return s, l
	}
	return "", k.name
}

// keyNamed finds a key by its dotted name.
func keyNamed(name string) *key {
	for _, k := range keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// Key describes one key of the configuration file.
type Key struct {
	Name    string // dotted, as in "xdp.mode"
	Default string // as written in the file
	Range   string // type, unit and range
	Doc     string
}

// Keys describes every key, in the order of the file.
func Keys() []Key {
	out := make([]Key, len(keys))
	for i, k := range keys {
		out[i] = Key{Name: k.name, Default: k.def, Range: k.about, Doc: k.doc}
	}
	return out
}

// Differences names the keys whose values differ between two configurations, in the order of the file.
func Differences(a, b *Config) (names []string) {
	for _, k := range keys {
		if k.encode(a) != k.encode(b) {
			names = append(names, k.name)
		}
	}
	return names
}
