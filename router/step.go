package router

import (
	"errors"
	"net/netip"
	"time"

	"kdht/router/krpc"
)

// Step is something that happens in a lookup.
type Step struct {
	Kind StepKind
	// After is the time since the lookup began, RTT that since the node was asked.
	After, RTT time.Duration
	// Node is the node in question. Its ID is zero where it is not known yet, as of a bootstrap node.
	Node Contact
	// Referrer named the node; the zero AddrPort: it is from our own table.
	Referrer netip.AddrPort
	// Hops is the number of referrals that led to the node, Bits how many leading bits its ID shares with the target.
	Hops, Bits int
	// Named is how many contacts its answer has.
	Named int
	// Found says that the answer has what is looked for, verified.
	Found bool
	// Err is why it failed: ErrTimeout, a *krpc.Error that the node sent, or what kept it from being asked.
	Err error
}

// StepKind tells steps apart.
type StepKind uint8

// Kinds of steps.
const (
	StepAsked    StepKind = iota // a query was sent
	StepSlow                     // the answer takes long; others are asked meanwhile
	StepAnswered                 // the node answered
	StepFailed                   // it did not, or with an error
)

// errOtherID says that an answer came with an ID that its address may not have, or that is not the one that was asked.
var errOtherID = errors.New("router: answered with another ID")

// WithSteps calls f for each step of a lookup. f is called by one goroutine at a time and must not block.
func WithSteps(f func(Step)) Option {
	return func(o *options) { o.steps = f }
}

// step tells the caller about a candidate.
func (l *lookup) step(kind StepKind, c *candidate, s Step) {
	if l.options.steps == nil {
		return
	}
	s.Kind, s.Node, s.Hops = kind, c.Contact, c.hops
	now := time.Now()
	s.After, s.RTT = now.Sub(l.begin), max(now.Sub(c.asked), 0)
	if !c.unknown || kind == StepAnswered {
		s.Bits = PrefixLen(l.target, c.ID)
	}
	if c.referrer != nil {
		s.Referrer = c.referrer.Addr
	}
	l.options.steps(s)
}

// named counts the contacts of an answer.
func named(m *krpc.Message) int {
	return len(m.Nodes)/krpc.Node4Len + len(m.Nodes6)/krpc.Node6Len
}
