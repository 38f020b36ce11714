package config

import (
	"errors"
	"testing"
)

func TestStateDirectory(t *testing.T) {
	none := func() (string, error) { return "", errors.New("none") }
	home := func() (string, error) { return "/home/u", nil }
	for name, c := range map[string]struct {
		env  map[string]string
		dirs []string
		home func() (string, error)
		uid  int
		want string
	}{
		"systemd":            {env: map[string]string{"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, home: none, want: "/var/lib/a"},
		"gokrazy":            {dirs: []string{"/gokrazy", "/perm"}, home: none, want: "/perm/kdht"},
		"perm without image": {dirs: []string{"/perm"}, home: none, want: "/var/lib/kdht"},
		"root":               {home: home, want: "/var/lib/kdht"},
		"user":               {home: home, uid: 1000, want: "/home/u/.local/state/kdht"},
		"user with XDG":      {env: map[string]string{"XDG_STATE_HOME": "/s"}, home: home, uid: 1000, want: "/s/kdht"},
		"relative XDG":       {env: map[string]string{"XDG_STATE_HOME": "s"}, home: home, uid: 1000, want: "/home/u/.local/state/kdht"},
		"homeless":           {home: none, uid: 1000, want: ""},
	} {
		p := platform{uid: c.uid, home: c.home,
			getenv: func(k string) string { return c.env[k] },
			isDir: func(path string) bool {
				for _, d := range c.dirs {
					if d == path {
						return true
					}
				}
				return false
			}}
		got, err := p.stateDir()
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestStateDirectoryMissing(t *testing.T) {
	b := New()
	b.where = platform{uid: 1000, getenv: func(string) string { return "" }, isDir: func(string) bool { return false },
		home: func() (string, error) { return "", errors.New("none") }}
	_, err := b.Config()
	if want := "state: there is no home directory to keep state in; give a directory with --state or in the file"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := b.Set("--state", "state", "/x"); err != nil {
		t.Fatal(err)
	}
	if c, err := b.Config(); err != nil || c.State != "/x" {
		t.Errorf("%q, %v", c.State, err)
	}
}
