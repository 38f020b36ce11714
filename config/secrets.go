package config

import (
	"net/url"
	"os"
)

// WithoutSecrets returns a URL as it may be shown and logged: without its password, and without its query, where places of downloads
// have their tokens. What is no URL is shown not at all.
func WithoutSecrets(place string) string {
	u, err := url.Parse(place)
	if err != nil {
		return ""
	}
	if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	return u.Redacted()
}

// shortSecret is the length under which a secret would be found where it is none, so that it is searched for together with what is
// around it.
const shortSecret = 6

// Secrets returns what of the configuration nobody but its owner is to read: the values, and the files that hold some. What
// leaves the machine is searched for them. [Config.Redacted] leaves the values out; a test holds the two together.
func (c *Config) Secrets() (values, files []string) {
	add := func(v string) {
		if v != "" {
			values = append(values, v)
		}
	}
	for _, t := range c.Gateway.Tokens {
		add(t.Secret)
	}
	if _, file := c.Names.Seed(); file != "" {
		files = append(files, file)
	} else {
		add(c.Names.Secret)
	}
	add(c.Tailnet.AuthKey)
	for _, name := range []string{TailnetKeyVariable, "TS_AUTHKEY", "TS_AUTH_KEY"} { // the latter are those of Tailscale's programs
		add(os.Getenv(name))
	}
	if c.Tailnet.AuthKeyFile != "" {
		files = append(files, c.Tailnet.AuthKeyFile)
	}
	if u, err := url.Parse(c.Update.URL); err == nil {
		password, _ := u.User.Password()
		if password != "" && len(password) < shortSecret {
			password = "//" + u.User.String() + "@"
		}
		add(password)
		query := u.RawQuery
		if query != "" && len(query) < shortSecret {
			query = u.EscapedPath() + "?" + query
		}
		add(query)
	}
	return values, files
}
