package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// Builder gathers a configuration: a file first, then flags, then defaults for the rest. The zero value is not usable.
type Builder struct {
	cfg    Config
	origin map[string]string // key → where its value comes from, FILE:LINE or a flag
	where  platform
}

// New returns a Builder in which nothing is set.
func New() *Builder {
	return &Builder{origin: make(map[string]string), where: thisPlatform()}
}

// Default returns the configuration that a machine has without file and flags.
func Default() (Config, error) { return New().Config() }

// Parse returns the configuration that a file's content gives. The name is for messages. The error is of type
// [Errors].
func Parse(name string, data []byte) (Config, error) {
	b := New()
	if err := b.Parse(name, data); err != nil {
		return Config{}, err
	}
	return b.Config()
}

// Values returns what a file's content gives, with defaults for the rest, of which each is checked by itself: flags may make whole what
// does not go together. The error is of type [Errors].
func Values(name string, data []byte) (Config, error) {
	b := New()
	if err := b.Parse(name, data); err != nil {
		return Config{}, err
	}
	cfg, _, err := b.values() // without a place for the state it has none
	return cfg, err
}

// File reads a configuration file. The error is of type [Errors].
func (b *Builder) File(path string) error {
	data, err := readFile(path)
	if err != nil {
		e := &Error{Origin: path, Msg: err.Error(), Hint: "give --config a readable file"}
		var pe *fs.PathError
		if errors.As(err, &pe) {
			e.Msg = pe.Err.Error()
		}
		if errors.Is(err, fs.ErrNotExist) {
			e.Hint = "write one with: kdht config show > " + path
		}
		return Errors{e}
	}
	return b.Parse(path, data)
}

// readFile reads a file as far as it may be one of ours, and a byte further so that more is noticed. Devices have no size
// to look at before, and no end.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Parse reads the content of a configuration file. The name is for messages. The error is of type [Errors].
func (b *Builder) Parse(name string, data []byte) error {
	p := &parser{b: b, name: name, data: data}
	return p.file().orNil()
}

// Set sets one key by its dotted name, overriding the file. The origin, usually the flag, is for messages. Lists take
// any number of values; to all other kinds, several are one with commas. The error is of type [Errors].
func (b *Builder) Set(origin, name string, values ...string) error {
	k := keyNamed(name)
	if k == nil {
		all := make([]string, len(keys))
		for i, k := range keys {
			all[i] = k.name
		}
		e := &Error{Origin: origin, Msg: "unknown key " + shorten(name), Hint: `"kdht config show" lists them all`}
		if n := Nearest(name, all); n != "" {
			e.Hint = "did you mean " + quote(n) + "?"
		}
		return Errors{e}
	}
	var errs Errors
	for f := k.decode(&b.cfg, k.value(values)); f != nil; f = f.next {
		e := &Error{Origin: origin, Key: k.name, Msg: f.msg, Hint: f.hint}
		if origin == "--"+k.name || origin == "--set "+k.name {
			e.Key = "" // it is said already
		}
		if !slices.ContainsFunc(errs, func(x *Error) bool { return *x == *e }) { // without a place they look alike
			errs = append(errs, e)
		}
	}
	if errs != nil {
		return errs
	}
	b.origin[name] = origin
	return nil
}

// Origin says where the value of a key comes from: FILE:LINE, a flag, or "" for the default.
func (b *Builder) Origin(name string) string { return b.origin[name] }

// Config gives the configuration: what was set, defaults for the rest, all of it checked together. The error is of
// type [Errors].
func (b *Builder) Config() (Config, error) {
	cfg, errs, err := b.values()
	if err != nil {
		return Config{}, err
	}
	errs = append(errs, b.together(&cfg)...)
	return cfg, errs.orNil()
}

// values are what was set and defaults for the rest, and which of these there are none of.
func (b *Builder) values() (cfg Config, errs Errors, err error) {
	cfg = b.cfg
	for _, k := range keys {
		if _, set := b.origin[k.name]; set {
			continue
		}
		switch {
		case k.name == "state":
			dir, err := b.where.stateDir()
			if err != nil {
				errs = append(errs, &Error{Origin: "state", Msg: err.Error(), Hint: "give a directory with --state or in the file"})
			}
			cfg.State = dir
		case k.name == "bootstrap" && cfg.Network == Private:
			cfg.Bootstrap = nil
		default:
			v, err := hujson.Parse([]byte(k.def))
			if err != nil {
				return Config{}, nil, fmt.Errorf("default of %s: %w", k.name, err)
			}
			if f := k.decode(&cfg, v); f != nil {
				return Config{}, nil, fmt.Errorf("default of %s: %s", k.name, f.msg)
			}
		}
	}
	return cfg, errs, nil
}

// together checks what concerns several keys.
func (b *Builder) together(c *Config) (errs Errors) {
	object := func(key, msg, hint string) {
		origin := b.origin[key]
		if origin == "" {
			origin = "default"
		}
		errs = append(errs, &Error{Origin: origin, Key: key, Msg: msg, Hint: hint})
	}
	if c.Store.MaxBytesPerSource > c.Store.MaxBytes {
		key := "store.maxBytesPerSource"
		if b.origin[key] == "" {
			key = "store.maxBytes"
		}
		object(key, fmt.Sprintf("store.maxBytesPerSource (%s) exceeds store.maxBytes (%s)",
			strings.Trim(size{}.encode(c.Store.MaxBytesPerSource), `"`), strings.Trim(size{}.encode(c.Store.MaxBytes), `"`)),
			"one source may have at most what all may have: lower the first or raise the second")
	}
	if c.Update.URL != "" && c.Update.Key == "" {
		object("update.url", "there is no update.key, so nothing could vouch for what is found there", "set update.key to the public key that the releases are signed with")
	}
	c.gatewayTogether(object)
	c.tailnetTogether(object)
	if c.Network == Public {
		for _, a := range c.External {
			if a.IsPrivate() {
				object("external", a.String()+" is a private address", `write the public address, or set "network": "private"`)
			}
		}
	}
	return errs
}
