package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is one fault of the configuration.
type Error struct {
	Origin string // FILE:LINE:COL, a flag, or a file name where no position applies
	Key    string // dotted name of the key; empty where none is concerned
	Msg    string // what is wrong
	Hint   string // what to write instead
}

// Error gives the fault on one line: origin, key, fault and hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Origin)
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors is every fault that was found, in the order of the file.
type Errors []*Error

// Error gives one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults one by one.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// orNil is e as an error, nil when there is no fault.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// fault is what a kind objects to in a value: the offset of the offending part in the file, and the two halves of the
// message.
type fault struct {
	offset    int
	msg, hint string
	next      *fault // another one, in another element of the same list
}

func faultf(offset int, hint, format string, args ...any) *fault {
	return &fault{offset: offset, msg: fmt.Sprintf(format, args...), hint: hint}
}

// position gives an offset of a file as NAME:LINE:COL, both from 1, columns counted in characters as editors do.
func position(name string, data []byte, offset int) string {
	before := data[:min(offset, len(data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	col := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("%s:%d:%d", name, line, col)
}
