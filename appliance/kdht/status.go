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
	"strings"
	"syscall"
	"time"
)

type statusCmd struct {
	HTTP    string        `name:"http" default:"127.0.0.1:8080" placeholder:"ADDR:PORT" env:"KDHT_HTTP" help:"Status page of the node (--http of kdht serve)."`
	Timeout time.Duration `default:"5s" help:"Give up after this time."`
	JSON    bool          `name:"json" help:"Print the JSON document as the node gave it."`
}

func (statusCmd) Help() string {
	return `Prints what the node says about itself: tables, XDP mode on each interface and why, store, counters. Counters
that are zero are left out; --json has them all.

Examples:

  kdht status
  kdht status --http 10.0.0.7:8080
  kdht status --json | jq .`
}

// maxStatus bounds the status document.
const maxStatus = 16 << 20

// Run shows a node's status.
func (c *statusCmd) Run(s *system) error {
	if c.Timeout <= 0 {
		return usage("write for example --timeout 5s", "--timeout must be more than 0s")
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(c.HTTP, "http://"), "/")
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr // as --http of serve may be written
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return usage("write ADDR:PORT, as in 127.0.0.1:8080", "--http %s is no address with a port", c.HTTP)
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	doc, err := fetchStatus(ctx, (&url.URL{Scheme: "http", Host: addr, Path: "/status"}).String())
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintln(s.stdout, strings.TrimSpace(string(doc)))
		return err
	}
	text, err := outline(doc)
	if err != nil {
		return failed(err, "is it the status page of kdht?", "the answer of %s is no JSON", addr)
	}
	_, err = io.WriteString(s.stdout, text)
	return err
}

// fetchStatus gets the JSON document.
func fetchStatus(ctx context.Context, u string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, usage("write ADDR:PORT, as in 127.0.0.1:8080", "%s", err)
	}
	req.Header.Set("Accept", "application/json")
	client := &http.Client{Transport: &http.Transport{}} // no proxy stands before one's own box
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &failure{code: exitUnreachable, msg: "no node has its status page at " + req.URL.Host, hint: "start one with \"kdht serve\", or give the address that its --http has"}
	}
	if err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, ctx.Err()
		}
		return nil, &failure{code: exitUnreachable, msg: "no answer from " + req.URL.Host, err: errors.Unwrap(err), hint: "check the address that the node's --http has, and firewalls between"}
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, failed(err, "try again", "the answer broke off")
	}
	// A node that is not well says so with 503, and has all the more to tell.
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, failed(nil, "is it the status page of kdht?", "%s answers %s", req.URL.Host, resp.Status)
	}
	if !json.Valid(doc) {
		return nil, failed(nil, "is it the status page of kdht?", "the answer of %s is no JSON", req.URL.Host)
	}
	return doc, nil
}
