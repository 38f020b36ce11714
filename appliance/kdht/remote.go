package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"kdht/appliance/update"
)

// boxFlags say which box is meant.
type boxFlags struct {
	Host         string `placeholder:"HOST[:PORT]" env:"KDHT_HOST" help:"The box. Default: the one that this program runs on."`
	Password     string `placeholder:"PASSWORD" env:"KDHT_PASSWORD" help:"Password of the box; better in the environment, or in a file."`
	PasswordFile string `placeholder:"FILE" help:"File with the password of the box."`
}

// remoteBox is a box that is talked to.
type remoteBox struct {
	base     url.URL
	password string
	client   *http.Client
	name     string
}

// box finds the box that the flags mean.
func (f *boxFlags) box() (*remoteBox, error) {
	t := &http.Transport{} // no proxy stands before one's own box
	b := &remoteBox{base: url.URL{Scheme: "http", Host: "box"}, client: &http.Client{Transport: t}, name: "this machine"}
	if f.Host == "" {
		if _, err := os.Stat(update.Socket); err != nil {
			return nil, usage("name the box with --host HOST", "this machine is no box, because it has no %s", update.Socket)
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", update.Socket)
		}
		return b, nil
	}
	u, err := url.Parse("http://" + strings.TrimSuffix(strings.TrimPrefix(f.Host, "http://"), "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil {
		return nil, usage("write HOST or HOST:PORT, as in kdht-a1b2c3.local or 10.0.0.7:80", "--host %s is no host", f.Host)
	}
	b.base.Host, b.name = u.Host, u.Host
	if b.password, err = readPassword(f.Password, f.PasswordFile); err != nil {
		return nil, err
	}
	return b, nil
}

// readPassword gives the password in a file, if there is one, else the other one.
func readPassword(password, file string) (string, error) {
	if file == "" {
		return password, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", failed(err, "name a file that you may read", "cannot read the password")
	}
	return strings.TrimSpace(string(text)), nil
}

// with does something with the box that the flags mean.
func (f *boxFlags) with(do func(*remoteBox) error) error {
	b, err := f.box()
	if err != nil {
		return err
	}
	defer b.client.CloseIdleConnections()
	return do(b)
}

// post sends requests without a body, one after the other.
func (b *remoteBox) post(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		if _, err := b.do(ctx, http.MethodPost, path, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// do sends a request and gives the body of the response.
func (b *remoteBox) do(ctx context.Context, method, path string, body io.Reader, length int64) ([]byte, error) {
	u, err := b.base.Parse("/" + path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	req.Header.Set("User-Agent", "kdht/1")
	if b.password != "" {
		req.SetBasicAuth("gokrazy", b.password)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, ctx.Err()
		}
		hint := "check the name of the box, and whether it is on"
		if errors.Is(err, syscall.EACCES) {
			hint = "only root may talk to the box from within"
		}
		return nil, &failure{code: exitUnreachable, msg: "no answer from " + b.name, err: errors.Unwrap(err), hint: hint}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	switch {
	case resp.StatusCode == http.StatusUnauthorized && b.password == "":
		return nil, failed(nil, "set KDHT_PASSWORD, or give --password-file", "%s wants its password", b.name)
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, failed(nil, "it is the one that was in gokr-pw.txt on the boot partition", "%s does not accept the password", b.name)
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, failed(nil, "wait for so long, and give the password that was in gokr-pw.txt on the boot partition", "%s: %s", b.name, strings.TrimSpace(string(text)))
	case resp.StatusCode == http.StatusNotFound || strings.HasPrefix(string(text), "<"):
		return nil, failed(nil, "is it a box that runs \"kdht serve --appliance\"?", "%s has no updates: %s", b.name, resp.Status)
	case resp.StatusCode >= 300:
		return nil, failed(nil, "\"kdht update status\" shows more", "%s: %s", b.name, strings.TrimSpace(string(text)))
	case err != nil:
		return nil, &failure{code: exitUnreachable, msg: "the answer of " + b.name + " broke off", err: err, hint: "try again"}
	}
	return text, nil
}

// status asks for the state of updates.
func (b *remoteBox) status(ctx context.Context) (st update.Status, doc []byte, err error) {
	if doc, err = b.do(ctx, http.MethodGet, "update/status", nil, 0); err != nil {
		return st, nil, err
	}
	if err := json.Unmarshal(doc, &st); err != nil {
		return st, nil, failed(fmt.Errorf("%w", err), "is it a box of this version?", "the answer of %s is not understood", b.name)
	}
	return st, doc, nil
}
