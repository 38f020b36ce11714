package foreign

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"kdht/appliance/fleet"
)

// Error is what a foreign client reported of a command.
type Error struct {
	Client  string
	Command string
	Text    string
	Code    int // KRPC error code, where the client passes it on
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Client, e.Command, e.Text) }

// agent is a script around a client's library, which takes commands on standard input, one at a time.
type agent struct {
	*fleet.Process
	name string
	in   io.WriteCloser
	out  <-chan string // lines of standard output
}

// start starts a script on a host and waits until its client listens.
func start(ctx context.Context, h *fleet.Host, dir, name string, argv ...string) (*agent, error) {
	stdin, in, err := pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := pipe()
	if err != nil {
		return nil, err
	}
	p, err := fleet.Start(h.NS, dir, name, stdin, stdout, argv...)
	_ = stdin.Close() // the child has its own
	_ = stdout.Close()
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		defer out.Close()
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	a := &agent{Process: p, name: name, in: in, out: lines}
	if err := a.reply(ctx, "start", nil); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close ends the client.
func (a *agent) Close() error {
	err := a.in.Close()
	go func() { // a late reply must not keep the script from ending
		for range a.out {
		}
	}()
	return errors.Join(err, a.Stop(10*time.Second))
}

// do gives a command and waits for its result.
func (a *agent) do(ctx context.Context, command string, args map[string]any, result any) error {
	request := map[string]any{"do": command}
	for k, v := range args {
		if b, ok := v.([]byte); ok {
			v = hex.EncodeToString(b)
		}
		request[k] = v
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := a.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("%s: %s: %w", a.name, command, err)
	}
	return a.reply(ctx, command, result)
}

// reply reads the result of a command.
func (a *agent) reply(ctx context.Context, command string, result any) error {
	var line string
	var ok bool
	select {
	case line, ok = <-a.out:
	case <-ctx.Done():
		return fmt.Errorf("%s: %s: %w", a.name, command, context.Cause(ctx))
	}
	if !ok {
		return fmt.Errorf("%s: %s: %w\n%s", a.name, command, a.Ended(), a.Log(4096))
	}
	var status struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		Code  any    `json:"code"` // a number from KRPC, a word from node.js
	}
	if err := json.Unmarshal([]byte(line), &status); err != nil {
		return fmt.Errorf("%s: %s: bad reply %q: %w", a.name, command, line, err)
	}
	if !status.OK {
		code, _ := status.Code.(float64)
		return &Error{Client: a.name, Command: command, Text: status.Error, Code: int(code)}
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal([]byte(line), result)
}
