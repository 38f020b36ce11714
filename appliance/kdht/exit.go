package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kdht/config"
	"kdht/router"
	"kdht/router/krpc"
)

// Exit codes. They are an interface: scripts depend on them. 125 is never used, because gokrazy takes it as the wish
// not to be started again.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
	exitRejected    = 5
	exitInterrupted = 130
)

// exitCodes is what "kdht --help" says about them.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done; serve: stopped by SIGTERM or SIGINT"},
	{exitFailure, "failed, for a reason that is none of those below"},
	{exitUsage, "wrong command line or configuration; nothing was done"},
	{exitNotFound, "no node has the item or the name, or no peers are known"},
	{exitUnreachable, "no node answered"},
	{exitRejected, "nodes, or a box asked for a name or a bundle, refused; the message says why"},
	{exitInterrupted, "interrupted by a signal; not serve"},
}

// exitHelp is the table of exit codes for the help text.
func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.meaning)
	}
	return b.String()
}

// failure is an error with an exit code, and a hint what to do next.
type failure struct {
	code int
	msg  string
	hint string
	err  error // cause; may be nil
	said bool  // the log has it
}

func (f *failure) Error() string {
	s := f.msg
	if f.err != nil {
		if s != "" {
			s += ": "
		}
		s += f.err.Error()
	}
	return s
}

func (f *failure) Unwrap() error { return f.err }

// usage is a fault of the command line.
func usage(hint, format string, args ...any) *failure {
	return &failure{code: exitUsage, msg: fmt.Sprintf(format, args...), hint: hint}
}

// failed is an error with a hint and the exit code 1.
func failed(err error, hint, format string, args ...any) *failure {
	return &failure{code: exitFailure, msg: fmt.Sprintf(format, args...), hint: hint, err: err}
}

// classify gives any error its exit code and hint.
func classify(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var faults config.Errors
	if errors.As(err, &faults) {
		return &failure{code: exitUsage, err: faults}
	}
	var refusal *krpc.Error
	switch {
	case errors.As(err, &refusal):
		return &failure{code: exitRejected, msg: fmt.Sprintf("the nodes refused with error %d (%q)", refusal.Code, refusal.Text), hint: refusalHint(refusal.Code)}
	case errors.Is(err, router.ErrNotFound):
		return &failure{code: exitNotFound, msg: "not found", hint: "no node that should have it has it; items expire two hours after their last put"}
	case errors.Is(err, router.ErrNoNodes):
		return &failure{code: exitUnreachable, msg: "no node answered", hint: unreachableHint}
	case errors.Is(err, router.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return &failure{code: exitUnreachable, msg: "no answer in time", hint: "check address and port, or wait longer with --timeout"}
	case errors.Is(err, router.ErrNoSocket), errors.Is(err, router.ErrFamilyUnavailable):
		return &failure{code: exitUnreachable, msg: "this machine has no address of that family", hint: "use an address of the other family (IPv4, IPv6)"}
	case errors.Is(err, context.Canceled):
		return &failure{code: exitInterrupted, msg: "interrupted"}
	}
	return &failure{code: exitFailure, err: err}
}

const unreachableHint = "check that UDP leaves this network, or name a node that is up with --bootstrap HOST:PORT"

// refusalHint says what helps against an error code of other nodes.
func refusalHint(code int) string {
	switch code {
	case krpc.ErrCodeProtocol:
		return "they did not accept the write token or the form of the message; try again"
	case krpc.ErrCodeServer:
		return "they have trouble of their own, such as a full disk; try again later, or other nodes"
	case krpc.ErrCodeMethod:
		return "these nodes do not store items (BEP 44); try again, or other nodes"
	case krpc.ErrCodeValueSize:
		return fmt.Sprintf("a bencoded value has at most %d bytes", krpc.MaxValue)
	case krpc.ErrCodeSignature:
		return "the signature does not belong to this key, salt, sequence number and value"
	case krpc.ErrCodeSaltSize:
		return fmt.Sprintf("a salt has at most %d bytes", krpc.MaxSalt)
	case krpc.ErrCodeCAS:
		return "somebody else has written meanwhile: get the item again and decide, then put with the --cas of what you got"
	case krpc.ErrCodeSeq:
		return "they have a newer version, or another value with this sequence number: put with a higher --seq, or leave it out"
	}
	return "try again later, or other nodes"
}
