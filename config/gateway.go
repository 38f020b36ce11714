package config

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/tailscale/hujson"
)

// Gateway configures the HTTP interface for programs.
type Gateway struct {
	Read      Read           // whether Allow may look things up
	Allow     []netip.Prefix // clients that need no credentials for that
	Put       Put            // who may put what carries its own proof
	Tokens    []Bearer       // bearer tokens: who shows one may read and write
	Sign      []string       // callers for whom the box signs with its own key: names of tokens, Loopback or Operators
	Origins   []string       // web origins whose scripts may use it (CORS); "*" is any
	Hosts     []string       // names, or domains of names, by which browsers reach the box, beside those that can only be its own
	PerSecond float64        // requests per second of one client
	Burst     int            // as many at once
}

// Names in [Gateway.Sign] that are no token's.
const (
	// Loopback is that of programs on the machine itself.
	Loopback = "loopback"
	// Operators is that of the operators in the tailnet.
	Operators = "operators"
)

// Bearer is a bearer token (RFC 6750) and the name of who has it.
type Bearer struct{ Name, Secret string }

// Read says whether clients on the LAN may look things up over HTTP.
type Read string

// Kinds of reading.
const (
	ReadAuto Read = "auto" // in a private network
	ReadOn   Read = "on"
	ReadOff  Read = "off"
)

// Put says who may put items that carry their own proof.
type Put string

// Kinds of putting.
const (
	PutAuthority Put = "authority" // who may write anyway
	PutReaders   Put = "readers"   // everybody who may read
)

// Readable reports whether clients on the LAN may look things up over HTTP.
func (c *Config) Readable() bool {
	return c.Gateway.Read == ReadOn || c.Gateway.Read == ReadAuto && c.Network == Private
}

// Names configures the plain names of a fleet.
type Names struct {
	Key    string // Ed25519 public key of the fleet, 64 hexadecimal digits; empty: that of Secret, or no names
	Secret string // its seed in 64 hexadecimal digits, or the file that has it; empty: names are read only
}

// Seed gives the fleet's seed if the configuration has it, else the file that does.
func (n Names) Seed() (seed []byte, file string) {
	if b, err := hex.DecodeString(n.Secret); err == nil && len(b) == 32 {
		return b, ""
	}
	return nil, n.Secret
}

// bearer is NAME:SECRET.
type bearer struct{}

var tokenForm = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,31}):([A-Za-z0-9._~+/-]{16,256}=*)$`)

func (bearer) decode(v hujson.Value) (Bearer, *fault) {
	const hint = `write NAME:SECRET, the name in lower case, the secret at least 16 letters and digits, as from "openssl rand -hex 16"`
	s, f := str(v, "NAME:SECRET", `"backup:" and what "openssl rand -hex 16" prints`)
	if f != nil {
		return Bearer{}, f
	}
	m := tokenForm.FindStringSubmatch(s)
	if m == nil {
		return Bearer{}, faultf(v.StartOffset, hint, "this is no token") // which nobody but its owner is to read
	}
	if to, reserved := map[string]string{Loopback: "programs on the machine itself", Operators: "operators in the tailnet"}[m[1]]; reserved {
		return Bearer{}, faultf(v.StartOffset, "choose another name", "the name %q stands for %s", m[1], to)
	}
	return Bearer{m[1], m[2]}, nil
}

func (bearer) encode(x Bearer) string           { return quote(x.Name + ":" + x.Secret) }
func (bearer) about() string                    { return "NAME:SECRET, the secret of 16 to 256 characters" }
func (bearer) text(words []string) hujson.Value { return stringValue(words) }

// distinctNames is the rule for tokens.
func distinctNames(tokens []Bearer) (msg, hint string) {
	seen := make(map[string]bool)
	for _, t := range tokens {
		if seen[t.Name] {
			return "two tokens have the name " + quote(t.Name), "give each its own"
		}
		seen[t.Name] = true
	}
	return "", ""
}

// origin is a web origin (RFC 6454), or "*" for any.
type origin struct{}

func (origin) decode(v hujson.Value) (string, *fault) {
	const example = `"https://app.example.org" or "*"`
	s, f := str(v, "an origin", example)
	if f != nil || s == "*" {
		return s, f
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		return "", faultf(v.StartOffset, "write scheme, host and, unless it is the usual one, port, as browsers do: "+example, "%s is no origin", literal(v))
	}
	return s, nil
}

func (origin) encode(x string) string           { return quote(x) }
func (origin) about() string                    { return `SCHEME://HOST[:PORT], or "*"` }
func (origin) text(words []string) hujson.Value { return stringValue(words) }

// domain is a name in the DNS, without port.
type domain struct{}

func (domain) decode(v hujson.Value) (string, *fault) {
	const example = `"box.example.org"`
	s, f := str(v, "a name", example)
	if f != nil {
		return "", f
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "", faultf(v.StartOffset, "leave it out: addresses may always be asked for", "%s is an address", literal(v))
	}
	if len(s) > 253 || !hostName.MatchString(s) {
		return "", faultf(v.StartOffset, "write a name without port, as in "+example, "%s is no name", literal(v))
	}
	return strings.ToLower(strings.TrimSuffix(s, ".")), nil
}

func (domain) encode(x string) string           { return quote(x) }
func (domain) about() string                    { return "a name in the DNS, without port" }
func (domain) text(words []string) hujson.Value { return stringValue(words) }

// seed is the secret half of an Ed25519 key, or a file with it.
type seed struct{}

func (seed) decode(v hujson.Value) (string, *fault) {
	s, f := str(v, "a secret key", `the file that "kdht keygen" made, as in "/etc/kdht/fleet.key"`)
	if f != nil || s == "" {
		return "", f
	}
	if b, err := hex.DecodeString(s); err == nil && len(b) == 32 {
		return strings.ToLower(s), nil
	}
	if !strings.Contains(s, "/") || len(s) > 4096 || strings.ContainsRune(s, 0) {
		return "", faultf(v.StartOffset, `write the path of a file that "kdht keygen" made, with a /, or the 64 hexadecimal digits in it`, "this is neither a file nor a secret key")
	}
	return s, nil
}

func (seed) encode(x string) string           { return quote(x) }
func (seed) about() string                    { return "64 hexadecimal digits, or the path of a file with them, or empty" }
func (seed) text(words []string) hujson.Value { return stringValue(words) }

// gatewayTogether checks what concerns several keys.
func (c *Config) gatewayTogether(object func(key, msg, hint string)) {
	for _, name := range c.Gateway.Sign {
		known := name == Loopback || name == Operators
		for _, t := range c.Gateway.Tokens {
			known = known || t.Name == name
		}
		if !known {
			object("gateway.sign", fmt.Sprintf("no token has the name %q", name), `name one of gateway.tokens, "loopback" or "operators"`)
		}
	}
	if c.Names.Secret == "" || c.Names.Key == "" {
		return
	}
	if s, _ := c.Names.Seed(); s != nil && publicOf(s) != c.Names.Key {
		object("names.key", "names.secret belongs to another public key", "write "+quote(publicOf(s))+", or leave names.key out")
	}
}

// publicOf gives the public key of a seed as the configuration has it.
func publicOf(seed []byte) string {
	return hex.EncodeToString(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
}
