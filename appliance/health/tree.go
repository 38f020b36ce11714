package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is how something is.
type State string

// The states.
const (
	Good     State = "good"
	Degraded State = "degraded" // it works, and not as well as it should
	Failed   State = "failed"
	Waiting  State = "waiting" // for something to happen, or for what it depends on
)

// States are all states, the best first.
var States = []State{Good, Waiting, Degraded, Failed}

// Works says that what depends on it can work.
func (s State) Works() bool { return s == Good || s == Degraded }

// Names of the checks of every node.
const (
	Link      = "link"
	Address   = "address"
	Bootstrap = "bootstrap"
	Table     = "routing table"
	Answers   = "answers"
	Store     = "store"
	Kernel    = "kernel half"
	Tasks     = "tasks"
)

// essential are the checks without which the node is no node of a DHT.
var essential = []string{Link, Address, Bootstrap, Table, Answers}

// Check is one part of the whole.
type Check struct {
	Name string `json:"name"`
	// After names what it depends on.
	After []string `json:"after,omitempty"`
	State State    `json:"state"`
	// Sentence says how it is and, unless it is good, why and what helps.
	Sentence string `json:"sentence"`
	// Because names the check that has failed, or is waited for, where this one cannot be good before that is.
	Because string `json:"because,omitempty"`
	// Since is when it came to be in this state.
	Since time.Time `json:"since"`
}

// Essential says that without it the node is no node of a DHT.
func (c Check) Essential() bool { return slices.Contains(essential, c.Name) }

// Tree is all checks, those that others depend on before them.
type Tree struct {
	// State is that of the whole: failed or waiting if the node is no working part of the DHT, degraded if it is and
	// something is not as it should be.
	State State `json:"state"`
	// Ready says that the DHT answers and is answered.
	Ready bool `json:"ready"`
	// Headline is all of it in a sentence or two.
	Headline string  `json:"headline"`
	Checks   []Check `json:"checks"`
}

// Check returns the check of a name; the zero Check if there is none.
func (t Tree) Check(name string) Check {
	for _, c := range t.Checks {
		if c.Name == name {
			return c
		}
	}
	return Check{}
}

// titles are how a headline begins.
var titles = map[State]string{Good: "Well.", Degraded: "Degraded.", Failed: "Not working.", Waiting: "Starting."}

// Title is the state in a word or two.
func (t Tree) Title() string { return strings.TrimSuffix(titles[t.State], ".") }

// whole makes the tree of checks: those whose parents do not work wait for them.
func whole(checks []Check, good string) Tree {
	t := Tree{State: Good, Ready: true, Checks: checks}
	at := make(map[string]*Check)
	var troubles []*Check
	for i := range checks {
		c := &checks[i]
		for _, name := range c.After {
			p := at[name]
			if p == nil || p.State.Works() {
				continue
			}
			c.State, c.Because = Waiting, p.Name
			if p.Because != "" {
				c.Because = p.Because
			}
			c.Sentence = "Waits for the " + c.Because + "."
			break
		}
		at[c.Name] = c
		t.State = worse(t.State, c.weight())
		if c.State != Good && c.Because == "" && (c.State != Waiting || c.Essential()) {
			troubles = append(troubles, c)
		}
		if c.Essential() && !c.State.Works() {
			t.Ready = false
		}
	}
	t.Headline = titles[t.State] + " " + good
	// What is to blame for the state of the whole comes first.
	slices.SortStableFunc(troubles, func(a, b *Check) int { return rank(b.weight()) - rank(a.weight()) })
	if len(troubles) > 0 {
		t.Headline = titles[t.State] + " " + troubles[0].Sentence
	}
	if n := len(troubles) - 1; n == 1 {
		t.Headline += fmt.Sprintf(" Also not as it should be: %s.", troubles[1].Name)
	} else if n > 1 {
		t.Headline += fmt.Sprintf(" Also not as they should be: %s and %d more.", troubles[1].Name, n-1)
	}
	return t
}

// weight is what a check makes of the whole.
func (c Check) weight() State {
	switch {
	case c.Essential():
		return c.State
	case c.State == Waiting:
		return Good
	case c.State == Failed:
		return Degraded
	}
	return c.State
}

// rank orders what states of parts make of the whole.
func rank(s State) int {
	return slices.Index([]State{Good, Degraded, Waiting, Failed}, s)
}

func worse(a, b State) State {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// Text is the tree for people, the headline first, a line for each check.
func (t Tree) Text() string {
	var b strings.Builder
	b.WriteString(t.Headline + "\n")
	width := 0
	for _, c := range t.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range t.Checks {
		fmt.Fprintf(&b, "%-8s  %-*s  %s\n", c.State, width, c.Name, c.Sentence)
	}
	return b.String()
}
