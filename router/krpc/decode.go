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
		ReadOnly: m.ReadOnly, HasReadOnly: m.HasReadOnly, Err: m.Err, ID: id, HasID: hasID,
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

// fields reads the dictionary "a" of a query or "r" of a response that begins at b[i] and returns where it ends.
func (d *decoder) fields(i int, t Type) (int, *DropError) {
	b := d.b
	var last []byte
	sorted := true
	i++
	first := i
	for i < len(b) && b[i] != 'e' {
		start, end := stringAt(b, i)
		if end < 0 {
			return 0, ErrSyntax
		}
		key := b[start:end]
		if sorted && last != nil && bytes.Compare(last, key) >= 0 {
			if err := checkKeys(b, first, 2); err != nil {
				return 0, err
			}
			sorted = false
		}
		last = key
		v := value{at: end}
		v.kind, v.start, v.n, v.end = valueAt(b, end, 3)
		if v.end < 0 {
			return 0, dropped(v.end)
		}
		i = v.end
		switch {
		case string(key) == "id": // the one key that every message has
			if s := v.bytes(b); len(s) == IDLen {
				d.m.ID, d.m.HasID = ID(s), true
			}
		case t == TypeQuery:
			d.argument(key, v)
		default:
			d.result(key, v)
		}
	}
	if i >= len(b) {
		return 0, ErrSyntax
	}
	return i + 1, nil
}

// value is what valueAt read.
type value struct {
	kind    kind
	at, end int   // all of it is b[at:end]
	start   int   // the bytes of a string are b[start:end]
	n       int64 // the integer
}

// raw returns the bencoded value.
func (v value) raw(b []byte) []byte { return b[v.at:v.end:v.end] }

// bytes returns the bytes of a string, or nil if it is none.
func (v value) bytes(b []byte) []byte {
	if v.kind != kindString {
		return nil
	}
	return b[v.start:v.end:v.end]
}

// sized returns the bytes of a string with that many bytes, or nil.
func (v value) sized(b []byte, n int) []byte {
	if v.kind != kindString || v.end-v.start != n {
		return nil
	}
	return b[v.start:v.end:v.end]
}

// whole returns the bytes of a string without a trailing part of a record, or nil.
func (v value) whole(b []byte, record int) []byte {
	s := v.bytes(b)
	return s[: len(s)-len(s)%record : len(s)-len(s)%record]
}

// argument stores one key of "a". Keys of a wrong type count as absent.
func (d *decoder) argument(key []byte, v value) {
	b, m := d.b, d.m
	switch string(key) {
	case "target":
		if s := v.sized(b, IDLen); s != nil {
			m.Target, m.HasTarget = ID(s), true
		}
	case "info_hash":
		if s := v.sized(b, IDLen); s != nil {
			m.InfoHash, m.HasInfoHash = ID(s), true
		}
	case "want":
		if v.kind == kindList {
			m.Want = wantFrom(b[v.at:v.end])
		}
	case "port":
		if v.kind == kindInt && uint64(v.n) <= 0xffff {
			m.Port, m.HasPort = uint16(v.n), true
		}
	case "implied_port":
		m.HasImpliedPort, m.ImpliedPort = v.flag()
	case "seed":
		m.HasSeed, m.Seed = v.flag()
	case "noseed":
		m.HasNoSeed, m.NoSeed = v.flag()
	case "scrape":
		m.HasScrape, m.Scrape = v.flag()
	case "token":
		m.Token = v.bytes(b)
	case "v":
		m.V = v.raw(b)
	case "k":
		if m.K = v.sized(b, KeyLen); m.K == nil {
			d.bad |= badK
		}
	case "sig":
		m.Sig = v.sized(b, SigLen)
	case "salt":
		if m.Salt = v.bytes(b); m.Salt == nil {
			d.bad |= badSalt
		}
	case "seq":
		if m.HasSeq, m.Seq = v.kind == kindInt, v.n; !m.HasSeq {
			d.bad |= badSeq
		}
	case "cas":
		if m.HasCAS, m.CAS = v.kind == kindInt, v.n; !m.HasCAS {
			d.bad |= badCAS
		}
	}
}

// flag reads an integer that means a truth value.
func (v value) flag() (present, set bool) {
	return v.kind == kindInt, v.kind == kindInt && v.n != 0
}

// result stores one key of "r". Keys of a wrong type or size count as absent, and trailing bytes of a list of records
// are cut off.
func (d *decoder) result(key []byte, v value) {
	b, m := d.b, d.m
	switch string(key) {
	case "nodes":
		m.Nodes = v.whole(b, Node4Len)
	case "nodes6":
		m.Nodes6 = v.whole(b, Node6Len)
	case "token":
		m.Token = v.bytes(b)
	case "values":
		if v.kind == kindList {
			m.Values = b[v.at+1 : v.end-1 : v.end-1]
		}
	case "v":
		m.V = v.raw(b)
	case "k":
		m.K = v.sized(b, KeyLen)
	case "sig":
		m.Sig = v.sized(b, SigLen)
	case "seq":
		m.HasSeq, m.Seq = v.kind == kindInt, v.n
	case "BFsd":
		m.BFSeeds = v.sized(b, len(BloomFilter{}))
	case "BFpe":
		m.BFPeers = v.sized(b, len(BloomFilter{}))
	case "interval":
		m.HasInterval, m.Interval = v.kind == kindInt, min(max(v.n, 0), MaxInterval)
	case "num":
		m.HasNum, m.Num = v.kind == kindInt, max(v.n, 0)
	case "samples":
		m.Samples = v.whole(b, IDLen)
	}
}

// query checks that a query has what its method needs.
func (d *decoder) query() error {
	if err := d.use(TypeQuery, d.a); err != nil {
		return err
	}
	m := d.m
	switch {
	case m.Method == MethodNone:
		return ErrArgMethod
	case d.a == 0:
		return ErrArgs
	case !m.HasID:
		return ErrArgID
	}
	switch m.Method {
	case MethodFindNode, MethodGet, MethodSampleInfohashes:
		if !m.HasTarget {
			return ErrArgTarget
		}
	case MethodGetPeers:
		if !m.HasInfoHash {
			return ErrArgInfoHash
		}
	case MethodAnnouncePeer:
		switch {
		case !m.HasInfoHash:
			return ErrArgInfoHash
		case !m.ImpliedPort && m.Port == 0:
			return ErrArgPort
		case m.Token == nil:
			return ErrArgToken
		}
	case MethodPut:
		return d.put()
	case MethodUnknown:
		switch {
		case m.HasTarget:
		case m.HasInfoHash:
			m.Target, m.HasTarget = m.InfoHash, true
		default:
			return ErrMethod
		}
	}
	return nil
}

func (d *decoder) put() error {
	m := d.m
	switch {
	case m.Token == nil:
		return ErrArgToken
	case d.bad&badK != 0:
		return ErrArgK
	case m.K != nil && d.bad&badSalt != 0:
		return ErrArgSalt
	case m.K != nil && d.bad&badSeq != 0:
		return ErrArgSeq
	case m.K != nil && d.bad&badCAS != 0:
		return ErrArgCAS
	}
	return checkPutArgs(m)
}

// wantFrom reads the list of "want".
func wantFrom(list []byte) (w Want) {
	for i := 1; list[i] != 'e'; {
		k, start, _, end := valueAt(list, i, 0)
		if k == kindString {
			switch string(list[start:end]) {
			case "n4":
				w |= WantN4
			case "n6":
				w |= WantN6
			}
		}
		i = end
	}
	return w
}

// errorFrom reads the list of "e". Some nodes leave out the text or, worse, the code: then that one is zero.
func errorFrom(list []byte) (e Error) {
	for i := 1; list[i] != 'e'; {
		k, start, n, end := valueAt(list, i, 0)
		switch {
		case k == kindInt && e.Code == 0 && int64(int32(n)) == n:
			e.Code = int(n)
		case k == kindString && e.Text == "":
			e.Text = string(list[start:end])
		}
		i = end
	}
	return e
}
