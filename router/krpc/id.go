package krpc

import (
	"encoding/hex"
	"fmt"
)

// IDLen is the length in bytes of a node ID, a target and an infohash (BEP 5).
const IDLen = 20

// ID is a 160-bit identifier in network byte order: a node ID, a lookup target or an infohash (BEP 5).
type ID [IDLen]byte

// ParseID reads an ID written as 40 hexadecimal digits of either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDLen {
		return ID{}, fmt.Errorf("ID %q: want %d hexadecimal digits, have %d", s, 2*IDLen, len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("ID %q: %w", s, err)
	}
	return id, nil
}

// String returns the ID as 40 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether all bits are zero.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler with the form ParseID reads.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
