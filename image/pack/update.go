package pack

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoPassword means that no password for a box was found.
var ErrNoPassword = errors.New("no password")

// Password returns the password of a box from where gokrazy's tools keep it: the host's file, or the one for all hosts, in
// the user's configuration.
func Password(host string) (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	for _, path := range []string{filepath.Join("hosts", host, "http-password.txt"), "http-password.txt"} {
		b, err := os.ReadFile(filepath.Join(dir, "gokrazy", path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return strings.TrimSpace(string(b)), err
	}
	return "", ErrNoPassword
}

// Update builds an instance and updates a box with it, through `gok update` as it is: host is a name or an address, with a
// port if that is not 80; without a password none is sent, which boxes want in their tailnet. The output of gok goes to w.
func Update(ctx context.Context, src Source, name, host, password string, o Options, w io.Writer) error {
	if o.Version == "" {
		o.Version = src.Version
	}
	to := url.URL{Scheme: "http", Host: host, Path: "/"}
	if password != "" {
		to.User = url.UserPassword("gokrazy", password)
	}
	log := filepath.Join(src.Dir, "bin", "update-"+name+".log")
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return err
	}
	in, err := openInstance(ctx, src, name, log, func(config map[string]any) error {
		// The image holds no password, so gok would send none: it takes one that is part of a URL.
		config["InternalCompatibilityFlags"] = map[string]any{"Update": to.String()}
		return setVersion(config, src, name, o.Version)
	})
	if err != nil {
		return err
	}
	defer in.Close()
	// gok prints the URL of the box, password and all.
	hide := &hider{w: w, secret: password}
	in.tee = hide
	return errors.Join(in.run(ctx, hide, nil, "update"), hide.flush())
}

// hider passes lines on without a secret.
type hider struct {
	w      io.Writer
	secret string
	rest   []byte
}

func (h *hider) Write(p []byte) (int, error) {
	h.rest = append(h.rest, p...)
	for {
		i := strings.IndexAny(string(h.rest), "\r\n")
		if i < 0 {
			return len(p), nil
		}
		line := h.rest[:i+1]
		h.rest = h.rest[i+1:]
		if _, err := io.WriteString(h.w, h.clean(line)); err != nil {
			return 0, err
		}
	}
}

func (h *hider) clean(line []byte) string {
	s := string(line)
	for _, secret := range []string{h.secret, url.QueryEscape(h.secret), url.PathEscape(h.secret)} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}

func (h *hider) flush() error {
	_, err := io.WriteString(h.w, h.clean(h.rest))
	h.rest = nil
	return err
}
