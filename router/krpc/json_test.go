package krpc_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"kdht/router/krpc"
)

func TestJSON(t *testing.T) {
	const idHex, targetHex = "6162636465666768696a30313233343536373839", "6d6e6f707172737475767778797a313233343536"
	for name, c := range map[string]struct{ in, want string }{
		"find_node": {
			query("find_node", "6:target20:"+target20+"4:wantl2:n42:n6e"),
			`{"a":{"id":"` + idHex + `","target":"` + targetHex + `","want":["n4","n6"]},"q":"find_node","t":"6161","y":"q"}`,
		},
		"reply": {
			"d2:ip6:\x01\x02\x03\x04\x1a\xe11:rd2:id20:" + id20 + "5:nodes31:" + target20 + "\x01\x02\x03\x04\x1a\xe1stray" +
				"6:nodes60:7:samples20:" + target20 + "5:token3:tok6:valuesl6:\x01\x02\x03\x04\x00\x013:abcee1:t0:1:v4:KD\x00\x011:y1:re",
			`{"ip":"1.2.3.4:6881","r":{"id":"` + idHex + `","nodes":[{"id":"` + targetHex + `","addr":"1.2.3.4:6881"},"0x7374726179"],` +
				`"nodes6":[],"samples":["` + targetHex + `"],"token":"746f6b","values":["1.2.3.4:1","#333a616263"]},` +
				`"t":"","v":"0x4b440001","y":"r"}`,
		},
		"IPv6": {
			"d2:ip18:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe11:rd6:nodes638:" + target20 +
				"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x1a\xe1ee",
			`{"ip":"[2001:db8::1]:6881","r":{"nodes6":[{"id":"` + targetHex + `","addr":"[::ffff:1.2.3.4]:6881"}]}}`,
		},
		"error":             {"d1:eli203e5:oh noe1:t2:aa1:y1:ee", `{"e":[203,"oh no"],"t":"6161","y":"e"}`},
		"value":             {query("put", "5:token0:1:vd2:id3:a\"\\e"), `{"a":{"id":"` + idHex + `","token":"","v":{"id":"a\"\\"}},"q":"put","t":"6161","y":"q"}`},
		"mistakable text":   {"l3:0x13:#00" + "2:\xc3\xa41:\n1:\xffe", `["0x307831","0x233030","ä","0x0a","0xff"]`},
		"order, twice":      {"d1:zi1e1:ai2e1:zi3ee", `{"z":1,"a":2,"z":3}`},
		"large integer":     {"d1:zi-123456789012345678901234567890ee", `{"z":-123456789012345678901234567890}`},
		"not canonical":     {"d1:zi007e01:yi-0e1:t02:aae", `{"z":"#6930303765","#30313a79":"#692d3065","t":"#30323a6161"}`},
		"unexpected kinds":  {"d1:rd2:idi5e5:nodesle6:values0:e2:ip4:abcd1:tdee", `{"r":{"id":"#693565","nodes":"#6c65","values":"#303a"},"ip":"#343a61626364","t":"#6465"}`},
		"trailing":          {"de\n\x00", `{"#trailing":"0x0a00"}`},
		"trailing text":     {"d1:y1:qee", `{"y":"q","#trailing":"e"}`},
		"integer, trailing": {"i5exx", `{"#value":5,"#trailing":"xx"}`},
		"string":            {"5:hello", `"hello"`},
		"deep":              {strings.Repeat("l", 100) + strings.Repeat("e", 100), strings.Repeat("[", 100) + strings.Repeat("]", 100)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := krpc.JSON([]byte(c.in))
			if err != nil || string(got) != c.want {
				t.Fatalf("error %v,\n%s, want\n%s", err, got, c.want)
			}
			if !json.Valid(got) {
				t.Error("not JSON")
			}
			if back := bencode(t, got); string(back) != c.in {
				t.Errorf("turned back into %q", back)
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	for in, want := range map[string]struct {
		is error
		at string
	}{
		"":                         {krpc.ErrSyntax, "byte 0: "},
		"x":                        {krpc.ErrSyntax, "byte 0: "},
		"e":                        {krpc.ErrSyntax, "byte 0: "},
		"d1:a":                     {krpc.ErrSyntax, "byte 4: "},
		"d1:ai5e":                  {krpc.ErrSyntax, "byte 7: "},
		"d1:ai5ei6e1:xe":           {krpc.ErrSyntax, "byte 7: "},
		"l5:abc":                   {krpc.ErrSyntax, "byte 1: "},
		"li1ei--1ee":               {krpc.ErrSyntax, "byte 4: "},
		"l9999999999999999999999:": {krpc.ErrSyntax, "byte 1: "},
		strings.Repeat("l", 60000): {krpc.ErrDepth, "byte 100: "},
	} {
		out, err := krpc.JSON([]byte(in))
		if out != nil || !errors.Is(err, want.is) || !strings.HasPrefix(err.Error(), want.at) {
			t.Errorf("%.40q: %q, error %v; want %s%v", in, out, err, want.at, want.is)
		}
	}
}

// Every recorded datagram is rendered, and the rendering holds all of it.
func TestJSONLossless(t *testing.T) {
	v := theVectors(t)
	for _, d := range append(v.Datagrams, v.Replies...) {
		out, err := krpc.JSON(d.Hex)
		if err != nil {
			t.Errorf("%s: %v", d.ID, err)
			continue
		}
		if back := bencode(t, out); !bytes.Equal(back, d.Hex) {
			t.Errorf("%s: %s turned back into %q", d.ID, out, back)
		}
		if strings.Contains(string(out), `"#`) {
			t.Errorf("%s: something was not understood: %s", d.ID, out)
		}
	}
}

// FuzzJSON: whatever is well-formed is rendered as JSON that can be turned back into the same bytes.
func FuzzJSON(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := krpc.JSON(b)
		if err != nil {
			var m krpc.Message
			if derr := krpc.Decode(b, &m); !errors.Is(derr, krpc.ErrMalformed) {
				t.Fatalf("JSON: %v, Decode: %v", err, derr)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
		if back := bencode(t, out); !bytes.Equal(back, b) {
			t.Fatalf("%s\nturned back into %q, want\n%q", out, back, b)
		}
	})
}

// bencode turns the output of krpc.JSON back into the datagram, by the rules in its documentation.
func bencode(t *testing.T, in []byte) []byte {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	r := reverser{t: t, d: d}
	out := r.value(nil, "")
	if _, err := d.Token(); err != io.EOF { //nolint:errorlint // io.EOF is not wrapped
		t.Fatalf("more than one value in %s", in)
	}
	return append(out, r.trailing...)
}

type reverser struct {
	t        *testing.T
	d        *json.Decoder
	trailing []byte
}

func (r *reverser) token() json.Token {
	tok, err := r.d.Token()
	if err != nil {
		r.t.Fatal(err)
	}
	return tok
}

// sep separates the keys of a path: it cannot be in a key that is rendered as text.
const sep = "\x00"

// field returns the key of a value that is directly in "a" or "r".
func field(path string) string {
	if in, key, _ := strings.Cut(path, sep); in == "a" || in == "r" {
		return key
	}
	return ""
}

// value turns back the next value; path is its place.
func (r *reverser) value(out []byte, path string) []byte {
	switch tok := r.token().(type) {
	case json.Number:
		return append(append(append(out, 'i'), tok...), 'e')
	case string:
		return r.str(out, tok, path)
	case json.Delim:
		if tok == '{' {
			return r.dict(out, path)
		}
		return r.list(out, path)
	}
	r.t.Fatal("unexpected token")
	return nil
}

func (r *reverser) list(out []byte, path string) []byte {
	switch size := map[string]int{"nodes": 26, "nodes6": 38, "samples": 20}[field(path)]; size {
	case 0:
		out = append(out, 'l')
		for r.d.More() {
			out = r.value(out, path+"[]")
		}
		r.token()
		return append(out, 'e')
	default:
		var s []byte
		for r.d.More() {
			switch tok := r.token().(type) {
			case string:
				s = append(s, unhex(r.t, strings.TrimPrefix(tok, "0x"))...)
			case json.Delim:
				r.token()
				s = append(s, unhex(r.t, r.token().(string))...)
				r.token()
				s = append(s, compact(r.t, r.token().(string))...)
				r.token()
			}
		}
		r.token()
		return append(out, str(string(s))...)
	}
}

func (r *reverser) dict(out []byte, path string) []byte {
	begin := len(out)
	out = append(out, 'd')
	wrapped := false
	for r.d.More() {
		switch key := r.token().(string); key {
		case "#trailing":
			r.trailing = plain(r.t, r.token().(string))
		case "#value":
			wrapped = true
			out = r.value(out[:begin], "other")
		default:
			out = r.str(out, key, "key")
			name := path + sep + key
			if path == "" {
				name = key
			}
			out = r.value(out, name)
		}
	}
	r.token()
	if wrapped {
		return out
	}
	return append(out, 'e')
}

func (r *reverser) str(out []byte, s, path string) []byte {
	switch {
	case strings.HasPrefix(s, "#"):
		return append(out, unhex(r.t, s[1:])...)
	case path == "t" || path == "c" ||
		slices.Contains([]string{"id", "target", "info_hash", "k", "sig", "token", "BFsd", "BFpe"}, field(path)):
		return append(out, str(string(unhex(r.t, s)))...)
	case path == "ip" || field(path) == "ip" || field(path) == "values[]":
		return append(out, str(string(compact(r.t, s)))...)
	}
	return append(out, str(string(plain(r.t, s)))...)
}

func plain(t *testing.T, s string) []byte {
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		return unhex(t, rest)
	}
	return []byte(s)
}

func compact(t *testing.T, s string) []byte {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return append(a.Addr().AsSlice(), byte(a.Port()>>8), byte(a.Port()))
}

func ExampleJSON() {
	datagram, _ := hex.DecodeString("64313a6164323a696432303a6162636465666768696a3031323334353637383965313a71343a70696e67313a74313a07313a79313a7165")
	out, err := krpc.JSON(datagram)
	fmt.Println(string(out), err)
	// Output: {"a":{"id":"6162636465666768696a30313233343536373839"},"q":"ping","t":"07","y":"q"} <nil>
}
