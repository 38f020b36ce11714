package krpc

import (
	"encoding/hex"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// maxJSONDepth bounds the recursion of JSON. It is larger than MaxDepth so that people can look at what Decode drops.
const maxJSONDepth = 100

// JSON renders any bencoded datagram for people, on one line, whether or not Decode would accept it. Nothing is lost:
// the order of keys, duplicates and bytes after the end are kept, and every form below can be turned back.
//   - Byte strings are JSON strings: as they are when they are printable UTF-8, else "0x" and hexadecimal digits.
//     Those that begin with "0x" or "#" count as not printable.
//   - What is known to be binary by its key is hexadecimal without the 0x: t and c of the message; id, target,
//     info_hash, k, sig, token, BFsd and BFpe of "a" and "r".
//   - Compact addresses (ip, the elements of values) are "address:port"; nodes and nodes6 are lists of objects with id
//     and addr, samples is a list of infohashes; if bytes are left over they are the last element, with 0x.
//   - Integers are numbers of any size: decode them with json.Number.
//   - "#" and hexadecimal digits are bencoding as it was received: an integer or a length with leading zeros, or a
//     known key whose value has another kind or size than it should.
//   - Bytes after the end are the last member of the message, "#trailing"; if the datagram is no dictionary it becomes
//     the member "#value".
//
// The error is an ErrSyntax or ErrDepth, with the offset of the item where reading failed.
func JSON(b []byte) ([]byte, error) {
	w := jsonWriter{b: b}
	out, end, err := w.value(nil, 0, 0, form{context: contextMessage})
	if err != nil {
		return nil, err
	}
	if end == len(b) {
		return out, nil
	}
	if b[0] != 'd' {
		out = append(append([]byte(`{"#value":`), out...), '}')
	}
	out = out[:len(out)-1]
	if out[len(out)-1] != '{' {
		out = append(out, ',')
	}
	out = append(out, `"#trailing":`...)
	return append(jsonText(out, b[end:]), '}'), nil
}

// context says which dictionary a key is in.
type context uint8

const (
	contextOther   context = iota
	contextMessage         // the message itself
	contextFields          // its "a" or "r"
)

// shape is how a byte string is rendered.
type shape uint8

const (
	shapeText shape = iota
	shapeBinary
	shapeAddr
	shapeValues // a list of shapeAddr
	shapeNodes
	shapeNodes6
	shapeSamples
)

// form is what is known about a value before it is read.
type form struct {
	context context // of its keys, if it is a dictionary
	shape   shape
}

// formOf returns what is known about the value of a key.
func formOf(in context, key []byte) form {
	switch in {
	case contextMessage:
		switch string(key) {
		case "a", "r":
			return form{context: contextFields}
		case "t", "c":
			return form{shape: shapeBinary}
		case "ip":
			return form{shape: shapeAddr}
		}
	case contextFields:
		switch string(key) {
		case "id", "target", "info_hash", "k", "sig", "token", "BFsd", "BFpe":
			return form{shape: shapeBinary}
		case "ip":
			return form{shape: shapeAddr}
		case "values":
			return form{shape: shapeValues}
		case "nodes":
			return form{shape: shapeNodes}
		case "nodes6":
			return form{shape: shapeNodes6}
		case "samples":
			return form{shape: shapeSamples}
		}
	}
	return form{}
}

type jsonWriter struct{ b []byte }

func (w jsonWriter) fail(err *DropError, at int) error { return fmt.Errorf("byte %d: %w", at, err) }

// value appends the value that begins at i and returns where it ends.
func (w jsonWriter) value(out []byte, i, depth int, f form) ([]byte, int, error) {
	if i >= len(w.b) {
		return out, i, w.fail(ErrSyntax, i)
	}
	c := w.b[i]
	switch {
	case c == 'l' || c == 'd':
		if depth >= maxJSONDepth {
			return out, i, w.fail(ErrDepth, i)
		}
		begin := len(out)
		out, end, err := w.container(out, i, depth, f)
		if err == nil && (c == 'd' && f.shape != shapeText || c == 'l' && f.shape != shapeText && f.shape != shapeValues) {
			out = jsonRaw(out[:begin], w.b[i:end])
		}
		return out, end, err
	case c == 'i':
		_, _, end := intAt(w.b, i)
		switch {
		case end < 0:
			return out, i, w.fail(ErrSyntax, i)
		case f.shape != shapeText || canonicalAt(w.b, i, 0) < 0:
			return jsonRaw(out, w.b[i:end]), end, nil
		}
		return append(out, w.b[i+1:end-1]...), end, nil
	case c-'0' <= 9:
		start, end := stringAt(w.b, i)
		switch {
		case end < 0:
			return out, i, w.fail(ErrSyntax, i)
		case canonicalString(w.b, i) < 0:
			return jsonRaw(out, w.b[i:end]), end, nil
		}
		out, ok := jsonString(out, w.b[start:end], f.shape)
		if !ok {
			out = jsonRaw(out, w.b[i:end])
		}
		return out, end, nil
	}
	return out, i, w.fail(ErrSyntax, i)
}

// container appends the list or dictionary that begins at i and returns where it ends.
func (w jsonWriter) container(out []byte, i, depth int, f form) ([]byte, int, error) {
	dict := w.b[i] == 'd'
	item := form{}
	if f.shape == shapeValues {
		item.shape = shapeAddr
	}
	out = append(out, map[bool]byte{true: '{', false: '['}[dict])
	first := i + 1
	for i = first; i < len(w.b) && w.b[i] != 'e'; {
		if i > first {
			out = append(out, ',')
		}
		if dict {
			start, end := stringAt(w.b, i)
			if end < 0 {
				return out, i, w.fail(ErrSyntax, i)
			}
			key := w.b[start:end]
			if canonicalString(w.b, i) < 0 {
				out = jsonRaw(out, w.b[i:end])
				item = form{} // known keys are known by their canonical form
			} else {
				out = jsonText(out, key)
				item = formOf(f.context, key)
			}
			out = append(out, ':')
			i = end
		}
		var err error
		if out, i, err = w.value(out, i, depth+1, item); err != nil {
			return out, i, err
		}
	}
	if i >= len(w.b) {
		return out, i, w.fail(ErrSyntax, i)
	}
	return append(out, map[bool]byte{true: '}', false: ']'}[dict]), i + 1, nil
}

// jsonString appends a string in its shape, and reports whether it has that shape.
func jsonString(out, s []byte, as shape) ([]byte, bool) {
	switch as {
	case shapeBinary:
		return jsonHex(out, "", s), true
	case shapeAddr:
		a, ok := AddrFrom(s)
		if !ok {
			return out, false
		}
		return jsonText(out, []byte(a.String())), true
	case shapeNodes:
		return jsonNodes(out, s, Node4Len), true
	case shapeNodes6:
		return jsonNodes(out, s, Node6Len), true
	case shapeSamples:
		return jsonRecords(out, s, IDLen, func(out, id []byte) []byte { return jsonHex(out, "", id) }), true
	case shapeValues:
		return out, false
	case shapeText:
	}
	return jsonText(out, s), true
}

func jsonNodes(out, s []byte, size int) []byte {
	return jsonRecords(out, s, size, func(out, node []byte) []byte {
		a, _ := AddrFrom(node[IDLen:])
		out = jsonHex(append(out, `{"id":`...), "", node[:IDLen])
		return append(jsonText(append(out, `,"addr":`...), []byte(a.String())), '}')
	})
}

// jsonRecords appends a list of records and, as its last element, the bytes that are left over.
func jsonRecords(out, s []byte, size int, record func(out, s []byte) []byte) []byte {
	out = append(out, '[')
	for len(s) >= size {
		out = append(record(out, s[:size]), ',')
		s = s[size:]
	}
	if len(s) > 0 {
		out = append(jsonHex(out, "0x", s), ',')
	}
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return append(out, ']')
}

// jsonText appends a byte string as text if it is printable and cannot be mistaken for another form, else in
// hexadecimal.
func jsonText(out, s []byte) []byte {
	if !printable(s) {
		return jsonHex(out, "0x", s)
	}
	out = append(out, '"')
	for _, c := range s {
		if c == '"' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return append(out, '"')
}

func printable(s []byte) bool {
	if len(s) > 0 && s[0] == '#' || len(s) > 1 && s[0] == '0' && s[1] == 'x' || !utf8.Valid(s) {
		return false
	}
	for _, r := range string(s) {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func jsonRaw(out, bencoded []byte) []byte { return jsonHex(out, "#", bencoded) }

func jsonHex(out []byte, prefix string, s []byte) []byte {
	out = append(append(out, '"'), prefix...)
	return append(hex.AppendEncode(out, s), '"')
}
