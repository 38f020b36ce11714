package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type bundleCmd struct {
	File      string `arg:"" optional:"" help:"Where to write it; - for standard output. Default: its own name, here."`
	HTTP      string `name:"http" default:"127.0.0.1:8080" placeholder:"ADDR:PORT" env:"KDHT_HTTP" help:"Status page of the node (--http of kdht serve). Default: 127.0.0.1:8080."`
	Token     string `placeholder:"SECRET" env:"KDHT_TOKEN" help:"Token of the box; better in the environment, or in a file."`
	TokenFile string `placeholder:"FILE" help:"File with the token."`
	// Of an appliance, as for updates.
	Password     string        `placeholder:"PASSWORD" env:"KDHT_PASSWORD" help:"Password of an appliance; better in the environment, or in a file."`
	PasswordFile string        `placeholder:"FILE" help:"File with the password of an appliance."`
	Timeout      time.Duration `default:"2m" help:"Give up after this time."`
}

func (bundleCmd) Help() string {
	return `Gets what somebody needs who is to find out what is wrong with a node: a .tar.gz with its health, report, log, metrics, history,
configuration without secrets, goroutines, interfaces, routes, and what the kernel says. It has addresses of clients and of
other nodes. A node gives it to programs on its own machine and to holders of a token, the appliance to whoever knows its password, too.

Examples:

  kdht bundle
  kdht bundle --http 10.0.0.7:80 --password-file pw.txt
  kdht bundle --http 10.0.0.7:80 --token-file token attic.tar.gz
  kdht bundle - | tar tzf -`
}

// maxBundle bounds a bundle, in bytes.
const maxBundle = 256 << 20

// Run gets a bundle.
func (c *bundleCmd) Run(s *system) error {
	if c.Timeout <= 0 {
		return usage("write for example --timeout 2m", "--timeout must be more than 0s")
	}
	addr, err := webAddress(c.HTTP)
	if err != nil {
		return err
	}
	token, err := readToken(c.Token, c.TokenFile)
	if err != nil {
		return err
	}
	password, err := readPassword(c.Password, c.PasswordFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: addr, Path: "/bundle"}).String(), nil)
	if err != nil {
		return usage("write ADDR:PORT, as in 10.0.0.7:8080", "%s", err)
	}
	if password != "" {
		req.SetBasicAuth("gokrazy", password)
	}
	res, err := askBox(ctx, req, token) // of both, the token counts
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusForbidden:
		return &failure{code: exitRejected, msg: addr + " does not give a bundle to you", hint: "ask on the machine itself, or with --token-file and a token of gateway.tokens in its configuration; an appliance takes its password as well, --password-file"}
	case res.StatusCode == http.StatusUnauthorized:
		return &failure{code: exitRejected, msg: addr + " wants its password", hint: "set KDHT_PASSWORD or give --password-file: it is the one that was in gokr-pw.txt on the boot partition"}
	case res.StatusCode == http.StatusTooManyRequests:
		return &failure{code: exitRejected, msg: addr + " has got too many wrong passwords", hint: "wait " + plain(res.Header.Get("Retry-After")) + " s"}
	case res.StatusCode == http.StatusConflict:
		return failed(nil, "try again in a moment", "somebody else is getting a bundle of %s just now", addr)
	case res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/gzip":
		return failed(nil, "is it the status page of kdht, and of this version?", "%s answers %s", addr, res.Status)
	}
	body := io.LimitReader(res.Body, maxBundle)
	if c.File == "-" {
		if s.stdoutIsTerminal {
			return usage("name a file, or write kdht bundle - | tar tzf -", "a bundle is nothing for a terminal")
		}
		if _, err = io.Copy(s.stdout, body); err != nil {
			return bundleBroken(ctx, addr, err)
		}
		return nil
	}
	path := c.File
	if path == "" {
		path = bundleName(res.Header.Get("Content-Disposition"))
	}
	if err := writeNew(path, body); err != nil {
		var pe *fs.PathError
		if errors.Is(err, fs.ErrExist) {
			return usage("name another file", "%s is there already", path)
		} else if errors.As(err, &pe) {
			return failed(err, "name a file that can be written", "cannot write the bundle")
		}
		return bundleBroken(ctx, addr, err)
	}
	return s.printLines([]string{path})
}

// bundleBroken is the failure of an answer that has no end.
func bundleBroken(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return &failure{code: exitUnreachable, msg: "the bundle of " + addr + " broke off", err: err, hint: "try again, or give it more time with --timeout"}
}

// bundleName is the name that a node gives its bundle, as far as it is the name of a file here.
func bundleName(disposition string) string {
	_, params, _ := mime.ParseMediaType(disposition)
	name := plain(params["filename"])
	if name == "" || name != filepath.Base(name) || !strings.HasSuffix(name, ".tar.gz") || strings.HasPrefix(name, ".") {
		return "kdht-bundle.tar.gz"
	}
	return name
}

// writeNew writes a file that is not there yet, for nobody else to read. One that cannot be completed is removed.
func writeNew(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // the first error says more
	}
	return err
}
