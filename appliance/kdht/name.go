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
	"strconv"
	"strings"
	"syscall"
	"time"

	"kdht/appliance/gateway"
)

type nameCmd struct {
	Get nameGetCmd `cmd:"" help:"Print the value of a name."`
	Put namePutCmd `cmd:"" help:"Give a name a value."`
	Rm  nameRmCmd  `cmd:"" help:"Remove a name."`
	Ls  nameLsCmd  `cmd:"" help:"List the names that a box knows."`
}

// nameFlags say which box is asked.
type nameFlags struct {
	HTTP      string        `name:"http" default:"127.0.0.1:8080" placeholder:"ADDR:PORT" env:"KDHT_HTTP" help:"A box of the fleet (--http of kdht serve). Default: 127.0.0.1:8080."`
	Token     string        `placeholder:"SECRET" env:"KDHT_TOKEN" help:"Token of the box; better in the environment, or in a file."`
	TokenFile string        `placeholder:"FILE" help:"File with the token."`
	Timeout   time.Duration `default:"30s" help:"Give up after this time."`
	JSON      bool          `name:"json" help:"Print one JSON document."`
}

type nameGetCmd struct {
	Name string `arg:"" help:"The name."`
	nameFlags
}

func (nameGetCmd) Help() string {
	return `Prints the value on standard output, its bytes as they are.

Examples:

  kdht name get printers/attic
  kdht name get --http 10.0.0.7:8080 printers/attic`
}

// Run gets a name.
func (c *nameGetCmd) Run(s *system) error {
	var accept []string
	if c.JSON {
		accept = []string{"Accept", "application/json"}
	}
	res, err := c.do(s, http.MethodGet, c.Name, nil, accept...)
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(res.body)
	if err == nil && s.stdoutIsTerminal && !strings.HasSuffix(string(res.body), "\n") {
		_, err = fmt.Fprintln(s.stdout)
	}
	return err
}

// nameChange are the flags of what changes a name.
type nameChange struct {
	CAS *int64 `name:"cas" xor:"version" placeholder:"SEQ" help:"Only if the present version has this sequence number."`
	nameFlags
}

func (c *nameChange) header() []string {
	if c.CAS == nil {
		return nil
	}
	return []string{"If-Match", `"` + strconv.FormatInt(*c.CAS, 10) + `"`}
}

type namePutCmd struct {
	Name  string  `arg:"" help:"The name, up to 64 bytes."`
	Value *string `arg:"" optional:"" help:"The value, up to 996 bytes."`
	File  string  `placeholder:"FILE" help:"Read the value from a file; - for standard input."`
	New   bool    `xor:"version" help:"Only if there is no such name."`
	nameChange
}

func (namePutCmd) Help() string {
	return `Gives a name a value, which every box of the fleet then knows, and keeps. A box that has the fleet's secret key signs it
(names.secret in its configuration); it does so for programs on its own machine and for holders of a token.

Examples:

  kdht name put printers/attic 10.0.0.9
  kdht name put --file motd.txt motd
  kdht name put --cas 1764264000000000 printers/attic 10.0.0.10
  KDHT_TOKEN=SECRET kdht name put --http 10.0.0.7:8080 printers/attic 10.0.0.9`
}

// Run puts a name.
func (c *namePutCmd) Run(s *system) error {
	value, err := readValue(s, c.Value, c.File, "kdht name put printers/attic 10.0.0.9")
	if err != nil {
		return err
	}
	if err := checkValue(encodeValue(value)); err != nil {
		return err
	}
	header := c.header()
	if c.New {
		header = append(header, "If-None-Match", "*")
	}
	res, err := c.do(s, http.MethodPut, c.Name, value, header...)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = s.stdout.Write(res.body)
		return err
	}
	var stored gateway.Stored
	if err := json.Unmarshal(res.body, &stored); err != nil || stored.Seq == nil {
		return failed(err, "is it a box of this version?", "the answer of %s is not understood", c.HTTP)
	}
	s.say("stored at %d %s, sequence number %d", stored.Stored, plural(stored.Stored, "node"), *stored.Seq)
	return nil
}

type nameRmCmd struct {
	Name string `arg:"" help:"The name."`
	nameChange
}

func (nameRmCmd) Help() string {
	return `Removes a name at every box of the fleet.

Examples:

  kdht name rm printers/attic`
}

// Run removes a name.
func (c *nameRmCmd) Run(s *system) error {
	_, err := c.do(s, http.MethodDelete, c.Name, nil, c.header()...)
	return err
}

type nameLsCmd struct {
	nameFlags
}

func (nameLsCmd) Help() string {
	return `Lists the names that are stored at a box, one a line: all of them in a fleet of up to eight boxes, where each stores
everything. Of a box in a larger one it says on standard error that there may be others.

Examples:

  kdht name ls
  kdht name ls --json | jq -r '.names[] | [.name, .size] | @tsv'`
}

// Run lists names.
func (c *nameLsCmd) Run(s *system) error {
	res, err := c.do(s, http.MethodGet, "", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = s.stdout.Write(res.body)
		return err
	}
	var list gateway.Names
	if err := json.Unmarshal(res.body, &list); err != nil {
		return failed(err, "is it a box of this version?", "the answer of %s is not understood", c.HTTP)
	}
	var lines []string
	for _, n := range list.Names {
		lines = append(lines, plain(n.Name))
	}
	if list.Partial {
		s.say("kdht: These are the names stored at %s. The fleet has more boxes than store a name, so that there may be others; \"kdht name get\" finds them all.", c.HTTP)
	}
	return s.printLines(lines)
}

// gatewayAnswer is what a box answered.
type gatewayAnswer struct{ body []byte }

// do asks the box about a name, "" for all of them. header are names and values.
func (f *nameFlags) do(s *system, method, name string, body []byte, header ...string) (*gatewayAnswer, error) {
	if f.Timeout <= 0 {
		return nil, usage("write for example --timeout 5s", "--timeout must be more than 0s")
	}
	addr, err := webAddress(f.HTTP)
	if err != nil {
		return nil, err
	}
	token, err := readToken(f.Token, f.TokenFile)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "http", Host: addr, Path: "/v1/names"}
	if name != "" {
		u.Path, u.RawPath = "/v1/names/"+name, "/v1/names/"+escapeName(name)
	}
	ctx, cancel := context.WithTimeout(s.ctx, f.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(string(body)))
	if err != nil {
		return nil, usage("write ADDR:PORT, as in 10.0.0.7:8080", "%s", err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := askBox(ctx, req, token)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxStatus))
	if err != nil {
		return nil, &failure{code: exitUnreachable, msg: "the answer of " + addr + " broke off", err: err, hint: "try again"}
	}
	if res.StatusCode >= 300 {
		return nil, problemFailure(addr, res, text)
	}
	return &gatewayAnswer{text}, nil
}

// webAddress is the ADDR:PORT that --http names, written in any of the usual ways.
func webAddress(text string) (string, error) {
	addr := strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/")
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", usage("write ADDR:PORT, as in 10.0.0.7:8080; on the appliance the port is 80", "--http %s is no address with a port", text)
	}
	return addr, nil
}

// readToken is the token that the flags give, "" if none.
func readToken(token, file string) (string, error) {
	if file == "" {
		return token, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", failed(err, "name a file that you may read", "cannot read the token")
	}
	return strings.TrimSpace(string(text)), nil
}

// askBox sends a request to a box, with a token unless that is empty.
func askBox(ctx context.Context, req *http.Request, token string) (*http.Response, error) {
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy stands before one's own box
	res, err := client.Do(req)
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, &failure{code: exitUnreachable, msg: "no box answers HTTP at " + req.URL.Host, hint: "start one with \"kdht serve\", or give the address that its --http has; on the appliance the port is 80"}
	}
	return nil, &failure{code: exitUnreachable, msg: "no answer from " + req.URL.Host, err: errors.Unwrap(err), hint: "check the address, and firewalls between"}
}

// escapeName writes a name as the end of a path, with all its bytes, "." and ".." too, as they are meant.
func escapeName(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		p = url.PathEscape(p)
		if p == "" || p == "." || p == ".." { // which a server would take out
			return strings.ReplaceAll(strings.ReplaceAll(url.PathEscape(name), ".", "%2E"), "/", "%2F")
		}
		parts[i] = p
	}
	return strings.Join(parts, "/")
}

// problemFailure is the failure of a problem document (RFC 9457) about a name.
func problemFailure(addr string, res *http.Response, text []byte) error {
	var p struct {
		Code, Detail string
		Seq          *int64
	}
	if err := json.Unmarshal(text, &p); err != nil || p.Detail == "" {
		return failed(nil, "is it a box of this version?", "%s answers %s", addr, res.Status)
	}
	what, next, _ := strings.Cut(strings.TrimSuffix(p.Detail, "."), ". ")
	f := &failure{code: exitRejected, msg: what, hint: next}
	switch { // what the gateway says to programs, for people at a command line
	case p.Code == "changed" && p.Seq == nil:
		f.msg, f.hint = "there is no such name, and --cas asks that there be", "leave out --cas to make it"
	case p.Code == "changed" && res.Request.Header.Get("If-None-Match") != "":
		f.msg, f.hint = "the name is there already, and --new asks that it not be", "leave out --new to give it another value"
	case p.Code == "changed":
		f.msg = fmt.Sprintf("somebody has changed it: its sequence number is %d", *p.Seq)
		f.hint = fmt.Sprintf("get it again and decide, then use --cas %d", *p.Seq)
	case p.Code == "no-fleet":
		f.hint = "\"kdht keygen\" makes a key, and \"kdht config show\" explains the keys of the configuration"
	case p.Code == "not-found", p.Code == "removed":
		f.hint = "\"kdht name ls\" lists the names that a box has"
	case p.Code == "value" && res.Request.ContentLength == 0:
		f.msg, f.hint = "the value is empty, which is what a removed name has", "\"kdht name rm\" removes a name"
	case p.Code == "token-unknown":
		f.msg, f.hint = "the token is no token of this box", "give one of gateway.tokens in the configuration of the box, without its name"
	case p.Code == "token-missing", p.Code == "forbidden":
		f.hint = "do it on that machine, or give --token-file with a token of gateway.tokens in the configuration of the box"
	}
	switch {
	case res.StatusCode == http.StatusNotFound && p.Code != "no-fleet":
		f.code = exitNotFound
	case res.StatusCode == http.StatusGatewayTimeout, res.StatusCode == http.StatusServiceUnavailable:
		f.code = exitUnreachable
	case res.StatusCode == http.StatusBadRequest:
		f.code = exitUsage
	}
	if f.hint == "" {
		f.hint = "\"kdht name --help\" says more"
	}
	return f
}
