package config

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/tailscale/hujson"
)

// Update configures updates of the appliance.
type Update struct {
	Key    string        // Ed25519 public key of releases, 64 hexadecimal digits; empty: what is uploaded need not be signed
	URL    string        // where releases are; empty: none are pulled
	Every  time.Duration // a release is looked for so often, a quarter more or less
	Window Window        // when a release that was found may be taken
	Trial  time.Duration // a version must prove well so long after the machine started
}

// Window is a part of each day, in UTC. The zero Window is the whole day.
type Window struct{ From, To int } // minutes after midnight; From = To is the whole day

// String gives the window as in the file.
func (w Window) String() string {
	if w.From == w.To {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
}

// Length is how long the window is open each day.
func (w Window) Length() time.Duration {
	n := w.To - w.From
	if n <= 0 {
		n += 24 * 60
	}
	return time.Duration(n) * time.Minute
}

// Wait is how long it is until the window opens; 0 while it is open.
func (w Window) Wait(now time.Time) time.Duration {
	if w.From == w.To {
		return 0
	}
	now = now.UTC()
	since := now.Sub(now.Truncate(24*time.Hour)) - time.Duration(w.From)*time.Minute // since it opened
	if since < 0 {
		since += 24 * time.Hour
	}
	if since < w.Length() {
		return 0
	}
	return 24*time.Hour - since
}

// hours is a [Window].
type hours struct{}

func (hours) decode(v hujson.Value) (Window, *fault) {
	const example = `"02:00-05:00"`
	s, f := str(v, "a part of the day", example)
	if f != nil || s == "" {
		return Window{}, f
	}
	var w [4]int
	if n, err := fmt.Sscanf(s, "%02d:%02d-%02d:%02d", &w[0], &w[1], &w[2], &w[3]); n != 4 || err != nil || len(s) != 11 ||
		strings.ContainsAny(s, "+ ") || w[0] > 23 || w[1] > 59 || w[2] > 23 || w[3] > 59 {
		return Window{}, faultf(v.StartOffset, "write HH:MM-HH:MM in UTC, as in "+example, "%s is no part of the day", literal(v))
	}
	return Window{w[0]*60 + w[1], w[2]*60 + w[3]}, nil
}

func (hours) encode(x Window) string           { return quote(x.String()) }
func (hours) about() string                    { return "HH:MM-HH:MM in UTC, or empty for the whole day" }
func (hours) text(words []string) hujson.Value { return stringValue(words) }

// publicKey is an Ed25519 public key.
type publicKey struct{}

func (publicKey) decode(v hujson.Value) (string, *fault) {
	const hint = `write what "kdht keygen --show FILE" prints`
	s, f := str(v, "a public key", `the 64 hexadecimal digits that "kdht keygen" printed`)
	if f != nil || s == "" {
		return "", f
	}
	if b, err := hex.DecodeString(s); err != nil || len(b) != ed25519.PublicKeySize {
		return "", faultf(v.StartOffset, hint, "%s is no public key of %d hexadecimal digits", literal(v), 2*ed25519.PublicKeySize)
	}
	return strings.ToLower(s), nil
}

func (publicKey) encode(x string) string           { return quote(x) }
func (publicKey) about() string                    { return "64 hexadecimal digits, or empty" }
func (publicKey) text(words []string) hujson.Value { return stringValue(words) }

// releases is where releases are.
type releases struct{}

func (releases) decode(v hujson.Value) (string, *fault) {
	const example = `"https://releases.example.org/kdht/"`
	s, f := str(v, "a URL", example)
	if f != nil || s == "" {
		return "", f
	}
	u, err := url.Parse(s)
	switch {
	case len(s) > 2048 || err != nil:
		return "", faultf(v.StartOffset, "write for example "+example, "%s is not a URL", literal(v))
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	case (u.Scheme == "file" || u.Scheme == "") && strings.HasPrefix(u.Path, "/") && u.Host == "":
	default:
		return "", faultf(v.StartOffset, "write a URL with http or https, as in "+example+", or a directory, as in \"/perm/release\"", "%s is no place that can be read", literal(v))
	}
	return s, nil
}

func (releases) encode(x string) string           { return quote(x) }
func (releases) about() string                    { return "URL (http or https) or directory, or empty" }
func (releases) text(words []string) hujson.Value { return stringValue(words) }
