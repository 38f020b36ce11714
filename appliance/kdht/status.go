package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"kdht/appliance/status"
)

type statusCmd struct {
	HTTP    string        `name:"http" default:"127.0.0.1:8080" placeholder:"ADDR:PORT" env:"KDHT_HTTP" help:"Status page of the node (--http of kdht serve). Default: 127.0.0.1:8080."`
	Timeout time.Duration `default:"5s" help:"Give up after this time."`
	Watch   bool          `short:"w" xor:"form" help:"Show it again and again, with rates per second, until interrupted; also over a restart of the node."`
	Every   time.Duration `default:"2s" help:"How often, with --watch."`
	Check   bool          `xor:"form" help:"Print the health alone; the exit code is 0 if the node is ready, 1 if it is not, 4 if nobody answers."`
	All     bool          `xor:"form" help:"Print everything that the node says, but for counters that are zero."`
	JSON    bool          `name:"json" xor:"form" help:"Print the JSON document as the node gave it."`
}

func (statusCmd) Help() string {
	return `Prints how the node is and, if it is not well, which of the things that depend on each other is to blame; then what it answers,
its routing tables, kernel half and store. On a terminal it has colours, unless NO_COLOR is set.

Examples:

  kdht status
  kdht status --watch --http 10.0.0.7:8080
  kdht status --check || echo "the node is not ready"
  kdht status --json | jq .health`
}

// maxStatus bounds the status document.
const maxStatus = 16 << 20

// Run shows a node's status.
func (c *statusCmd) Run(s *system) error {
	if c.Timeout <= 0 {
		return usage("write for example --timeout 5s", "--timeout must be more than 0s")
	}
	if c.Every < minEvery {
		return usage("write for example --every 2s", "--every must be at least %s", minEvery)
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(c.HTTP, "http://"), "/")
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr // as --http of serve may be written
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return usage("write ADDR:PORT, as in 127.0.0.1:8080", "--http %s is no address with a port", c.HTTP)
	}
	u := (&url.URL{Scheme: "http", Host: addr, Path: "/status"}).String()
	if c.Watch {
		return c.watch(s, u)
	}
	doc, err := c.fetch(s.ctx, u)
	if err != nil {
		return err
	}
	var text string
	switch {
	case c.JSON:
		text = strings.TrimSpace(string(doc)) + "\n"
	case c.All:
		text, err = outline(doc)
	default:
		var r status.Report
		if err = json.Unmarshal(doc, &r); err == nil {
			v := statusView{Report: r, colour: s.colours()}
			text = v.text()
			if c.Check {
				text = v.health()
			}
		}
	}
	if err != nil {
		return failed(err, "is it the status page of kdht, and of this version?", "the answer of %s is not understood", addr)
	}
	if _, err := io.WriteString(s.stdout, text); err != nil {
		return err
	}
	if c.Check {
		return notReady(doc)
	}
	return nil
}

// notReady is the exit code 1, unless the document of a node says that it is ready.
func notReady(doc []byte) error {
	var r struct{ Ready bool }
	if err := json.Unmarshal(doc, &r); err == nil && r.Ready {
		return nil
	}
	return &failure{code: exitFailure, said: true}
}

// fetch gets the JSON document in the time that it may take.
func (c *statusCmd) fetch(ctx context.Context, u string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return fetchStatus(ctx, u)
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
