package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"

	"kdht/config"
)

const (
	// removed stands where a secret was.
	removed = "[secret removed]"
	// shortest is the length from which on a text is searched for: what is shorter is a word, and would be found where it is none.
	shortest = 6
	// maxSecretFile bounds a file with a secret, in bytes.
	maxSecretFile = 64 << 10
)

// Secrets are the texts that must not leave the machine.
type Secrets struct{ forms [][]byte }

// SecretsOf returns the secrets of a configuration, those in the files that it names, and those in other files, where they can
// be read.
func SecretsOf(c config.Config, files ...string) Secrets {
	values, named := c.Secrets()
	for _, path := range append(named, files...) {
		if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxSecretFile {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue // what the process cannot read it cannot tell
		}
		values = append(values, strings.TrimSpace(string(text)))
		for line := range strings.Lines(string(text)) {
			values = append(values, strings.TrimSpace(line))
		}
	}
	return NewSecrets(values)
}

// NewSecrets returns secrets, which are found also where they were written in hexadecimal digits of the other case, in JSON, in
// URLs, and in base 64.
func NewSecrets(values []string) (s Secrets) {
	for _, v := range values {
		if len(v) < shortest {
			continue
		}
		quoted, _ := json.Marshal(v) // a string can be
		for _, form := range []string{
			v, strings.ToUpper(v), strings.ToLower(v), strings.Trim(string(quoted), `"`), url.QueryEscape(v), url.PathEscape(v),
			base64.StdEncoding.EncodeToString([]byte(v)), base64.URLEncoding.EncodeToString([]byte(v)),
		} {
			if !slices.ContainsFunc(s.forms, func(f []byte) bool { return string(f) == form }) {
				s.forms = append(s.forms, []byte(form))
			}
		}
	}
	// The longest first: one may be a part of another.
	slices.SortStableFunc(s.forms, func(a, b []byte) int { return len(b) - len(a) })
	return s
}

// Remove returns a text without the secrets.
func (s Secrets) Remove(text []byte) []byte {
	for _, f := range s.forms {
		text = bytes.ReplaceAll(text, f, []byte(removed))
	}
	return text
}
