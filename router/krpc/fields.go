package krpc

import "bytes"

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
	case "BFsd", "BFse": // mldht misspells it
		m.BFSeeds = v.sized(b, len(BloomFilter{}))
	case "BFpe":
		m.BFPeers = v.sized(b, len(BloomFilter{}))
	case "interval":
		m.HasInterval, m.Interval = v.kind == kindInt, min(max(v.n, 0), MaxInterval)
	case "num":
		m.HasNum, m.Num = v.kind == kindInt, max(v.n, 0)
	case "samples":
		m.Samples = v.whole(b, IDLen)
	case "stored":
		m.HasStored, m.Stored = v.kind == kindInt, max(v.n, 0)
	}
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
