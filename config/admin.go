package config

import (
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/tailscale/hujson"
)

// Tailnet configures the admin plane: the node of a tailnet that the program is, beside everything else.
type Tailnet struct {
	Mode        TailnetMode
	AuthKey     string // to join with; never shown nor logged
	AuthKeyFile string // file that has it; empty: none
	ControlURL  string // of the control server; empty: Tailscale's
	Hostname    string // name in the tailnet; empty: that of the machine
	Tags        []string

	// Who may do what without a capability of the tailnet: login names of users, or tags.
	Viewers, Operators, Updaters []string
}

// TailnetMode says whether the node joins a tailnet.
type TailnetMode string

// Modes of the admin plane.
const (
	TailnetAuto TailnetMode = "auto" // with an auth key, or if it joined before
	TailnetOn   TailnetMode = "on"   // with somebody's login, if need be
	TailnetOff  TailnetMode = "off"
)

// TailnetKeyVariable is the variable of the environment that may have the auth key.
const TailnetKeyVariable = "KDHT_TAILNET_KEY"

// HasKey reports whether the configuration or the environment names an auth key.
func (t Tailnet) HasKey() bool {
	return t.AuthKey != "" || t.AuthKeyFile != "" || os.Getenv(TailnetKeyVariable) != ""
}

// secret is a text that nobody but its owner is to read.
type secret struct {
	what, example string
	form          *regexp.Regexp
}

var authKeyForm = regexp.MustCompile(`^[!-~]{8,512}$`) // that of Tailscale and Headscale

func (k secret) decode(v hujson.Value) (string, *fault) {
	s, f := str(v, k.what, k.example)
	if f != nil || s == "" {
		return "", f
	}
	if !k.form.MatchString(s) {
		return "", faultf(v.StartOffset, "write it as you got it, without blanks", "this is not %s", k.what)
	}
	return s, nil
}

func (k secret) encode(x string) string           { return quote(x) }
func (k secret) about() string                    { return k.what + ", or empty" }
func (k secret) text(words []string) hujson.Value { return stringValue(words) }

// control is the URL of a control server.
type control struct{}

func (control) decode(v hujson.Value) (string, *fault) {
	const example = `"https://headscale.example.org"`
	s, f := str(v, "a URL", example)
	if f != nil || s == "" {
		return "", f
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", faultf(v.StartOffset, "write scheme, host and, if need be, port, as in "+example, "%s is not the URL of a control server", literal(v))
	}
	return strings.TrimSuffix(s, "/"), nil
}

func (control) encode(x string) string           { return quote(x) }
func (control) about() string                    { return "URL (https or http), or empty" }
func (control) text(words []string) hujson.Value { return stringValue(words) }

var (
	tagForm  = regexp.MustCompile(`^tag:[a-zA-Z][a-zA-Z0-9-]{0,60}$`)
	userForm = regexp.MustCompile(`^[^\s:"\\*]{1,254}$`)
)

// principal is who a role of the admin plane is given to: a tag, or the login name of a user.
type principal struct{ tagsOnly bool }

func (k principal) decode(v hujson.Value) (string, *fault) {
	example := `"alice@example.org" or "tag:admin"`
	if k.tagsOnly {
		example = `"tag:kdht"`
	}
	s, f := str(v, "a name", example)
	if f != nil {
		return "", f
	}
	switch {
	case tagForm.MatchString(s):
	case strings.HasPrefix(s, "tag:") || k.tagsOnly:
		return "", faultf(v.StartOffset, "write tag: and letters, digits and -, as in "+quote("tag:kdht"), "%s is no tag", literal(v))
	case !userForm.MatchString(s):
		return "", faultf(v.StartOffset, "write a login name or a tag, as in "+example, "%s is no login name", literal(v))
	}
	return s, nil
}

func (k principal) encode(x string) string           { return quote(x) }
func (k principal) text(words []string) hujson.Value { return stringValue(words) }
func (k principal) about() string {
	if k.tagsOnly {
		return "tag:NAME"
	}
	return "login name, or tag:NAME"
}

// tailnetTogether checks what concerns several keys.
func (c *Config) tailnetTogether(object func(key, msg, hint string)) {
	t := &c.Tailnet
	if t.AuthKey != "" && t.AuthKeyFile != "" {
		object("tailnet.authKeyFile", "there is tailnet.authKey as well", "keep one of them; a file is the better place for a secret")
	}
}
