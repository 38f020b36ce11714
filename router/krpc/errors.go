package krpc

import (
	"errors"
	"fmt"
)

// Error codes of BEP 5 and BEP 44.
const (
	ErrCodeGeneric   = 201 // BEP 5: generic error
	ErrCodeServer    = 202 // BEP 5: server error
	ErrCodeProtocol  = 203 // BEP 5: malformed packet, invalid arguments, bad token
	ErrCodeMethod    = 204 // BEP 5: method unknown
	ErrCodeValueSize = 205 // BEP 44: v too big
	ErrCodeSignature = 206 // BEP 44: invalid signature
	ErrCodeSaltSize  = 207 // BEP 44: salt too big
	ErrCodeCAS       = 301 // BEP 44: cas mismatch, re-read and try again
	ErrCodeSeq       = 302 // BEP 44: seq less than the stored one, or equal with another value
)

// Error is a KRPC error message, the list [code, text] of the key "e" (BEP 5).
type Error struct {
	Code int    // one of the ErrCode constants, or whatever a remote node sent
	Text string // for people; not necessarily UTF-8 when received
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("KRPC error %d: %q", e.Code, e.Text) }

// Answers for queries that cannot be served. They are shared: never change them.
var (
	ErrServer      = &Error{ErrCodeServer, "server error"}
	ErrToken       = &Error{ErrCodeProtocol, "invalid token"}
	ErrMethod      = &Error{ErrCodeMethod, "method unknown"}
	ErrValueSize   = &Error{ErrCodeValueSize, "v too big"}
	ErrValueForm   = &Error{ErrCodeProtocol, "v not canonical"}
	ErrSignature   = &Error{ErrCodeSignature, "invalid signature"}
	ErrSaltSize    = &Error{ErrCodeSaltSize, "salt too big"}
	ErrCAS         = &Error{ErrCodeCAS, "cas mismatch"}
	ErrSeq         = &Error{ErrCodeSeq, "seq too old"}
	ErrArgs        = &Error{ErrCodeProtocol, "missing a"}
	ErrArgID       = &Error{ErrCodeProtocol, "invalid id"}
	ErrArgTarget   = &Error{ErrCodeProtocol, "invalid target"}
	ErrArgInfoHash = &Error{ErrCodeProtocol, "invalid info_hash"}
	ErrArgPort     = &Error{ErrCodeProtocol, "invalid port"}
	ErrArgToken    = &Error{ErrCodeProtocol, "missing token"}
	ErrArgV        = &Error{ErrCodeProtocol, "missing v"}
	ErrArgK        = &Error{ErrCodeProtocol, "invalid k"}
	ErrArgSig      = &Error{ErrCodeProtocol, "invalid sig"}
	ErrArgSeq      = &Error{ErrCodeProtocol, "invalid seq"}
	ErrArgCAS      = &Error{ErrCodeProtocol, "invalid cas"}
	ErrArgSalt     = &Error{ErrCodeProtocol, "invalid salt"}
	ErrArgMethod   = &Error{ErrCodeProtocol, "missing q"}
)

// ErrMalformed is the class of everything that is dropped in silence: errors.Is(err, ErrMalformed) holds for each of
// the DropError values below and for no *Error.
var ErrMalformed = errors.New("malformed datagram")

// DropError says why a datagram is not worth an answer. Its text is short and fixed, fit for a metric label.
type DropError struct{ reason string }

// Error implements error.
func (e *DropError) Error() string { return e.reason }

// Unwrap returns ErrMalformed.
func (e *DropError) Unwrap() error { return ErrMalformed }

// What Decode returns for datagrams to be dropped in silence.
var (
	ErrSyntax        = &DropError{"syntax"}           // not one well-formed bencoded dictionary
	ErrDepth         = &DropError{"depth"}            // containers nested deeper than MaxDepth
	ErrDuplicateKey  = &DropError{"duplicate key"}    // twice the same key in the message, "a" or "r"
	ErrTooManyKeys   = &DropError{"too many keys"}    // more than MaxUnsortedKeys keys, and not sorted
	ErrNoTransaction = &DropError{"no transaction"}   // "t" absent, not a string, or longer than MaxTID
	ErrNoType        = &DropError{"no message type"}  // "y" absent or none of q, r, e
	ErrNoID          = &DropError{"reply without id"} // a response without "r" or without a 20-byte id in it
)
