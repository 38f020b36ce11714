package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"kdht/appliance/update/bootdisk"
	"kdht/appliance/update/trial"
)

// guard is one trial.
type guard struct {
	socket  string // of the appliance
	records string // directory
	line    string // command line of the kernel

	say     func(string)
	now     func() time.Duration // since the start of the machine
	sleep   func(time.Duration)
	commit  func(bootdisk.Target) error
	restart func() error
}

// run watches over a trial. It returns nil once that is committed, or not at all after a restart of the machine.
func (g *guard) run(t bootdisk.Target) error {
	deadline, passes := deadlineOf(g.records, g.line, t)
	g.say(fmt.Sprintf("slot %d is on trial: it must be well %d times in a row within %s", t.To, passes, (deadline - g.now()).Round(time.Second)))
	good, last, failed := 0, "it was never asked", []string(nil)
	for {
		bad, checks := g.ask()
		if bad == "" {
			good++
		} else {
			if bad != last {
				g.say("not well: " + bad)
			}
			good, last, failed = 0, bad, checks
		}
		if good >= passes {
			err := g.commit(t)
			if err == nil {
				g.say(fmt.Sprintf("slot %d is well and committed", t.To))
				g.record(trial.Outcome{Committed: true})
				return nil
			}
			good, last, failed = 0, "it cannot be committed: "+err.Error(), nil
			g.say(last)
		}
		if g.now() >= deadline {
			g.say("the time is up, going back: " + last)
			bounded(func() { g.record(trial.Outcome{Reason: last, Failed: failed}) })
			return fmt.Errorf("the machine does not restart: %w", g.restart())
		}
		g.sleep(every)
	}
}

// record writes the outcome for whoever starts next. Without /perm nobody will know, and nothing depends on it.
func (g *guard) record(o trial.Outcome) {
	o.Time = time.Now()
	if err := trial.Write(g.records, trial.OutcomeFile, o); err != nil {
		g.say("the outcome is not written: " + err.Error())
	}
}

// patience is how long an answer may take.
const patience = 10 * time.Second

// ask asks the appliance how it is; "" means well. failed names the checks that failed, if it has
// answered. It is HTTP without net/http, which would be most of this program.
func (g *guard) ask() (bad string, failed []string) {
	c, err := net.DialTimeout("unix", g.socket, patience)
	if err != nil {
		return "the appliance does not run: " + err.Error(), nil
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err.Error(), nil
	}
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.0\r\nHost: guard\r\n\r\n"); err != nil {
		return "the appliance hangs: " + err.Error(), nil
	}
	b, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if err != nil {
		return "the appliance hangs: " + err.Error(), nil
	}
	h, err := parse(string(b))
	if err != nil {
		return "the appliance answers nonsense: " + err.Error(), nil
	}
	return h.Unhealthy(), h.Failed()
}

// parse reads an HTTP response.
func parse(s string) (h trial.Health, err error) {
	head, body, ok := strings.Cut(s, "\r\n\r\n")
	first, _, _ := strings.Cut(head, "\r\n")
	if f := strings.Fields(first); !ok || len(f) < 2 || f[1] != "200" {
		return h, errors.New(first)
	}
	return h, json.Unmarshal([]byte(body), &h)
}
