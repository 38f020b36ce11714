package store

import (
	"fmt"
	"runtime/debug"
)

// A fault is a panic or a memory fault in a transaction: what bbolt answers to a
// page that makes no sense or cannot be read. It is ErrDamaged until verify has
// found the file sound.
type fault struct {
	cause any
	stack []byte
}

func (f *fault) Error() string { return fmt.Sprintf("%v: %v", ErrDamaged, f.cause) }

func (f *fault) Unwrap() error { return ErrDamaged }

// guard, deferred, turns a panic into a fault. The goroutine must have called
// debug.SetPanicOnFault, or a page that cannot be read kills the process.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = &fault{r, debug.Stack()}
	}
}

// guarded runs fn so that neither panic nor fault escapes.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer guard(&err)
	return fn()
}
