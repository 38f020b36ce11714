package krpc

import (
	"bytes"
	"net/netip"
)

// Decode reads one datagram into m, which it resets first. It keeps no reference to m; m's slices alias b.
//
// The error is one of three kinds:
//   - nil: m can be used. A query has all the arguments its method needs, with the right sizes. A response has an ID.
//   - a *DropError (errors.Is ErrMalformed): drop the datagram in silence. What m holds means nothing.
//   - a *Error: m is a query that gets this error as its answer; Type, TID and whatever else could be read are set.
//
// A query with an unknown method is an ErrMethod (204), unless it carries a target or an info_hash: then the error is
// nil, Method is MethodUnknown, Target holds that key (HasTarget is true), and it is to be answered like find_node,
// as libtorrent does for the sake of future methods.
//
// A put has a value of canonical form and legal size, and if it is mutable (K is not nil) a seq, a signature of the
// right size and a legal salt. Its token and its signature are still to be checked, with CheckPut for the latter.
//
// A put or announce_peer with rd need not have a token, since who does recursion may do without: whoever does not has
// the check of CheckToken still to do.
//
// The package documentation lists what is tolerated and what is not.
func Decode(b []byte, m *Message) error {
	*m = Message{}
	if len(b) == 0 || b[0] != 'd' {
		return ErrSyntax
	}
	d := decoder{b: b, m: m}
	if err := d.message(); err != nil {
		return err
	}
	if m.TID == nil || len(m.TID) > MaxTID {
		return ErrNoTransaction
	}
	if m.Type != TypeError {
		m.Err = Error{}
	}
	if m.Type != TypeQuery {
		m.Method, m.Name = MethodNone, nil
	}
	switch m.Type {
	case TypeQuery:
		return d.query()
	case TypeResponse:
		if err := d.use(TypeResponse, d.r); err != nil {
			return err
		}
		if !m.HasID {
			return ErrNoID
		}
		return nil
	case TypeError:
		if err := d.use(TypeResponse, d.r); err != nil {
			return err
		}
		m.keepEnvelope(m.ID, m.HasID) // nothing else in the "r" of an error has a meaning
		return nil
	}
	return ErrNoType
}

// keepEnvelope clears everything that comes from "a" or "r" but the ID.
func (m *Message) keepEnvelope(id ID, hasID bool) {
	*m = Message{
		Type: m.Type, TID: m.TID, Method: m.Method, Name: m.Name, Version: m.Version, IP: m.IP,
		ReadOnly: m.ReadOnly, HasReadOnly: m.HasReadOnly, Recursive: m.Recursive, HasRecursive: m.HasRecursive,
		Err: m.Err, ID: id, HasID: hasID,
	}
}

// decoder is the state of one Decode.
type decoder struct {
	b []byte
	m *Message

	// Which of "a" (TypeQuery) and "r" (TypeResponse) was read into m, and where they begin; 0 is nowhere. The one
	// that comes first is read at once in the hope that it is the right one: "y", which tells, comes last.
	read Type
	a, r int
	bad  badKeys
}

// badKeys is the set of arguments that were present with a wrong type or size.
type badKeys uint8

const (
	badK badKeys = 1 << iota
	badSeq
	badCAS
	badSalt
)

// message reads the top-level dictionary.
func (d *decoder) message() error {
	b, m := d.b, d.m
	var last []byte
	sorted := true
	i := 1
	for i < len(b) && b[i] != 'e' {
		start, end := stringAt(b, i)
		if end < 0 {
			return ErrSyntax
		}
		key := b[start:end]
		if sorted && last != nil && bytes.Compare(last, key) >= 0 {
			if err := checkKeys(b, 1, 1); err != nil {
				return err
			}
			sorted = false
		}
		last, i = key, end

		if len(key) == 1 && (key[0] == 'a' || key[0] == 'r') && i < len(b) && b[i] == 'd' {
			t := TypeQuery
			if key[0] == 'a' {
				d.a = i
			} else {
				d.r, t = i, TypeResponse
			}
			if d.read == 0 {
				d.read = t
				end, err := d.fields(i, t)
				if err != nil {
					return err
				}
				i = end
				continue
			}
		}

		k, start, n, end := valueAt(b, i, 2)
		if end < 0 {
			return dropped(end)
		}
		switch string(key) {
		case "e":
			if k == kindList {
				m.Err = errorFrom(b[i:end])
			}
		case "ip":
			if k == kindString {
				if a, ok := AddrFrom(b[start:end]); ok {
					m.IP = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
				}
			}
		case "q":
			if k == kindString {
				m.Name = b[start:end:end]
				m.Method = methodOf(m.Name)
			}
		case "rd":
			if k == kindInt {
				m.HasRecursive, m.Recursive = true, n != 0
			}
		case "ro":
			if k == kindInt {
				m.HasReadOnly, m.ReadOnly = true, n != 0
			}
		case "t":
			if k == kindString {
				m.TID = b[start:end:end]
			}
		case "v":
			if k == kindString {
				m.Version = b[start:end:end]
			}
		case "y":
			if k == kindString && end-start == 1 {
				m.Type = Type(b[start])
			}
		}
		i = end
	}
	if i >= len(b) {
		return ErrSyntax
	}
	return nil
}

// use makes sure that m holds the fields of "a" or "r", whichever belongs to the type; at is where it begins.
func (d *decoder) use(t Type, at int) *DropError {
	if d.read == t || d.read == 0 {
		return nil
	}
	d.m.keepEnvelope(ID{}, false)
	d.bad = 0
	if at == 0 {
		return nil
	}
	_, err := d.fields(at, t)
	return err
}
