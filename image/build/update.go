package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"kdht/image/pack"
)

type updateCmd struct {
	Host         string `arg:"" help:"Name or address of the box, with its port if that is not 80."`
	Instance     string `placeholder:"NAME" help:"What kind of box it is; the one for this machine's architecture if not given."`
	PasswordFile string `placeholder:"FILE" help:"File with the password of the box."`
	Version      string `placeholder:"TEXT" help:"What the appliance will call itself (as git describes the checkout)."`
}

func (updateCmd) Help() string {
	return `Builds an instance and sends it with "gok update", gokrazy's own client. The box tries the new version and keeps it only when it is
well. The password is that in FILE, else what gokrazy's tools use for the host (~/.config/gokrazy/hosts/HOST/http-password.txt), else
for all hosts (~/.config/gokrazy/http-password.txt). A box asks nodes of its tailnet for none.

Examples:

  build update 192.168.1.20
  build update box.example --instance rpi --password-file box.txt`
}

// Run updates the box.
func (c *updateCmd) Run(ctx context.Context) error {
	src, err := pack.OpenSource(ctx, ".")
	if err != nil {
		return err
	}
	instance, err := hostInstance(c.Instance)
	if err != nil {
		return err
	}
	password, err := c.password(ctx)
	if err != nil {
		return err
	}
	return pack.Update(ctx, src, instance, c.Host, password, pack.Options{Version: c.Version}, os.Stderr)
}

// password is that of the box, "" for one that asks for none.
func (c *updateCmd) password(ctx context.Context) (string, error) {
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		return strings.TrimSpace(string(b)), err
	}
	host := c.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	password, err := pack.Password(host)
	if errors.Is(err, pack.ErrNoPassword) {
		if asksForNone(ctx, c.Host) {
			return "", nil
		}
		err = fmt.Errorf("%w for %s is known here: name a file with --password-file (make update ARGS=--password-file=FILE)", err, host)
	}
	return password, err
}

// askTime is what a box has to say whether it wants a password.
const askTime = 10 * time.Second

// asksForNone says whether a box lets us see its updates without a password, as it does in its tailnet. Whether we may update it,
// it says when we do.
func asksForNone(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: host, Path: "/update/features"}).String(), nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close() // the status says all
	return res.StatusCode == http.StatusOK
}
