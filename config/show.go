package config

import (
	"bytes"
	"strings"
)

// width is where comments are wrapped.
const width = 110

// Show prints the effective configuration as a commented file, which parses back to the same configuration.
func (b *Builder) Show() ([]byte, error) {
	cfg, err := b.Config()
	if err != nil {
		return nil, err
	}
	return cfg.HuJSON(b.Origin), nil
}

// HuJSON prints the configuration as a commented file, which parses back to the same configuration, but for auth keys, which
// nobody is shown. Where origin is not nil, values that do not come from the default are marked with where they come from.
func (c *Config) HuJSON(origin func(key string) string) []byte { return c.print(origin, false) }

// Redacted prints the configuration like HuJSON, without any secret: for support bundles, and for those who may look but not
// write. Keys with secrets say that there are some.
func (c *Config) Redacted(origin func(key string) string) []byte { return c.print(origin, true) }

func (c *Config) print(origin func(key string) string, redact bool) []byte {
	var w bytes.Buffer
	w.WriteString("// Configuration of kdht: JSON with comments and trailing commas. A key that is left out has its default.\n{\n")
	for _, k := range keys {
		if section, _ := k.split(); section == "" {
			c.member(&w, k, "\t", origin, redact)
		}
	}
	for _, s := range sections {
		comment(&w, "\t", s.doc)
		w.WriteString("\t" + quote(s.name) + ": {\n")
		for _, k := range keys {
			if section, _ := k.split(); section == s.name {
				c.member(&w, k, "\t\t", origin, redact)
			}
		}
		w.WriteString("\t},\n\n")
	}
	w.Truncate(w.Len() - 1) // no blank line before the brace
	w.WriteString("}\n")
	return w.Bytes()
}

// member prints one key with its description.
func (c *Config) member(w *bytes.Buffer, k *key, indent string, origin func(string) string, redact bool) {
	comment(w, indent, k.doc)
	comment(w, indent, upper(k.about)+". Default: "+k.def+".")
	if origin != nil && origin(k.name) != "" {
		comment(w, indent, "Set by "+origin(k.name)+".")
	}
	_, leaf := k.split()
	value, defaultValue := k.encode(c), k.def
	switch {
	case value == defaultValue:
	case k.hidden:
		comment(w, indent, "It is set, and not shown.")
		value = defaultValue
	case redact && k.redact != nil:
		if shown := k.redact(c); shown != value {
			comment(w, indent, "Secrets are not shown.")
			value = shown
		}
	}
	w.WriteString(indent + quote(leaf) + ": " + value + ",\n")
	if indent == "\t" {
		w.WriteString("\n")
	}
}

// upper makes the first letter of a sentence a capital.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// comment prints text as line comments.
func comment(w *bytes.Buffer, indent, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)*4+len(line)+1+len(word) > width {
			w.WriteString(indent + "//" + line + "\n")
			line = ""
		}
		line += " " + word
	}
	w.WriteString(indent + "//" + line + "\n")
}
