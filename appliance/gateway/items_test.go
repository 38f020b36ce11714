package gateway_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"kdht/appliance/gateway"
	"kdht/router/krpc"
)

// seedKey is a key from a seed of one byte repeated.
func seedKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(b)), ed25519.SeedSize)))
}

func public(k ed25519.PrivateKey) string { return hex.EncodeToString(k.Public().(ed25519.PublicKey)) }

// document is a signed item as a client sends it.
func document(key ed25519.PrivateKey, salt string, seq int64, text string) string {
	v := fmt.Appendf(nil, "%d:%s", len(text), text)
	b, err := json.Marshal(gateway.Document{V: hex.EncodeToString(v), Seq: &seq, Sig: hex.EncodeToString(krpc.Sign(key, []byte(salt), seq, v))})
	if err != nil {
		panic(err)
	}
	return string(b)
}

const asJSON = "application/json"

// What is put at one box is found at another, in each form, and the client that has it is told so.
func TestImmutableItems(t *testing.T) {
	f := fleet(t, 4)
	var s gateway.Stored
	put := f[0].do("PUT", "/v1/items", "Hello World!")
	put.ok(t, http.StatusCreated, &s)
	const target = "e5f96f6f38320f0f33959cb4d3d656452117aadb"
	if s.Target != target || s.Stored != 4 || put.header.Get("Location") != "/v1/items/"+target {
		t.Errorf("%+v, %v", s, put.header)
	}
	for _, b := range f {
		a := b.do("GET", "/v1/items/"+target, "")
		if a.ok(t, http.StatusOK, nil); a.body != "Hello World!" || a.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%q, %v", a.body, a.header)
		}
		if again := b.do("GET", "/v1/items/"+target, "", "If-None-Match", a.header.Get("Etag")); again.code != http.StatusNotModified || again.body != "" {
			t.Errorf("%d %s", again.code, again.body)
		}
	}
	a := f[1].do("GET", "/v1/items/"+target, "", "Accept", "application/x-bencode")
	if a.body != "12:Hello World!" {
		t.Errorf("bencoded: %q", a.body)
	}
	var d gateway.Document
	a = f[1].do("GET", "/v1/items/"+target, "", "Accept", asJSON)
	if a.ok(t, http.StatusOK, &d); d.Target != target || d.Text == nil || *d.Text != "Hello World!" || d.V != hex.EncodeToString([]byte("12:Hello World!")) {
		t.Errorf("%s", a.body)
	}
	if h := f[2].do("HEAD", "/v1/items/"+target, ""); h.code != http.StatusOK || h.body != "" || h.header.Get("Content-Length") != "12" {
		t.Errorf("HEAD: %d %q %v", h.code, h.body, h.header)
	}

	// Any bencoded value, and a document as it was got.
	f[0].do("PUT", "/v1/items", "d3:cow3:mooe", "Content-Type", "application/x-bencode").ok(t, http.StatusCreated, &s)
	if a := f[3].do("GET", "/v1/items/"+s.Target, ""); a.body != "d3:cow3:mooe" || a.header.Get("Content-Type") != "application/x-bencode" {
		t.Errorf("%q, %v", a.body, a.header)
	}
	f[0].do("PUT", "/v1/items", a.body, "Content-Type", asJSON).ok(t, http.StatusCreated, &s)
	if s.Target != target {
		t.Errorf("%+v", s)
	}
	most := strings.Repeat("x", 996)
	f[0].do("PUT", "/v1/items", most).ok(t, http.StatusCreated, &s)
	if a := f[1].do("GET", "/v1/items/"+s.Target, ""); a.body != most {
		t.Errorf("%d bytes", len(a.body))
	}

	for _, c := range []struct {
		body, media string
		status      int
		code        string
	}{
		{strings.Repeat("x", 997), "", http.StatusRequestEntityTooLarge, "too-large"},
		{strings.Repeat("x", 20000), "", http.StatusRequestEntityTooLarge, "too-large"},
		{"d3:cow3:moo", "application/x-bencode", http.StatusBadRequest, "value"},
		{"i-0e", "application/x-bencode", http.StatusBadRequest, "value"},
		{"{", asJSON, http.StatusBadRequest, "document"},
		{`{"cow": "moo"}`, asJSON, http.StatusBadRequest, "value"},
		{`{"v": "zz"}`, asJSON, http.StatusBadRequest, "value"},
		{`{"text": "x", "target": "` + target + `"}`, asJSON, http.StatusBadRequest, "target"},
		{document(seedKey(1), "", 1, "x"), asJSON, http.StatusBadRequest, "document"},
	} {
		f[0].do("PUT", "/v1/items", c.body, "Content-Type", c.media).is(t, c.status, c.code)
	}
	f[2].do("GET", "/v1/items/"+strings.Repeat("ab", 20), "").is(t, http.StatusNotFound, "not-found")
	f[2].do("GET", "/v1/items/nothing", "").is(t, http.StatusBadRequest, "key")
	f[2].do("GET", "/v1/items", "").is(t, http.StatusMethodNotAllowed, "method")
	f[2].do("DELETE", "/v1/items", "").is(t, http.StatusMethodNotAllowed, "method")
	f[2].do("GET", "/v1/nothing", "").is(t, http.StatusNotFound, "no-such-path")
}

// A mutable item that its owner has signed goes from box to box; its entity tag is its sequence number, and If-Match is cas.
func TestSignedItems(t *testing.T) {
	f := fleet(t, 4)
	key := seedKey(1)
	for _, salt := range []string{"", "news", "a/b//c", "..", "%", "\x00\xff", strings.Repeat("s", 64)} {
		path := "/v1/items/" + public(key) + "/" + escape(salt)
		if salt == "" {
			path = strings.TrimSuffix(path, "/")
		}
		f[1].do("GET", path, "").is(t, http.StatusNotFound, "not-found")
		var s gateway.Stored
		a := f[0].do("PUT", path, document(key, salt, 7, "seven"), "Content-Type", asJSON)
		if a.ok(t, http.StatusCreated, &s); *s.Seq != 7 || s.Stored != 4 || s.Salt != hex.EncodeToString([]byte(salt)) || a.header.Get("Etag") != `"7"` {
			t.Errorf("%q: %+v, %v", salt, s, a.header)
		}
		a = f[2].do("GET", path, "")
		if a.ok(t, http.StatusOK, nil); a.body != "seven" || a.header.Get("Etag") != `"7"` || a.header.Get("Kdht-Seq") != "7" {
			t.Errorf("%q: %q, %v", salt, a.body, a.header)
		}
	}
	path := "/v1/items/" + public(key) + "/news"
	for _, c := range []struct {
		tag  string
		code int
	}{{`"7"`, 304}, {`"6", "7"`, 304}, {`W/"7"`, 304}, {`*`, 304}, {`"6"`, 200}, {`"7-json"`, 200}, {`"07"`, 200}} {
		if a := f[2].do("GET", path, "", "If-None-Match", c.tag); a.code != c.code {
			t.Errorf("If-None-Match %s: %d", c.tag, a.code)
		}
	}
	put := func(seq int64, text string, header ...string) answer {
		t.Helper()
		return f[3].do("PUT", path, document(key, "news", seq, text), append(header, "Content-Type", asJSON)...)
	}
	put(6, "six").is(t, http.StatusConflict, "older")
	put(7, "another").is(t, http.StatusConflict, "older")
	put(7, "seven").ok(t, http.StatusOK, nil)
	put(8, "eight", "If-Match", `"6"`).is(t, http.StatusPreconditionFailed, "changed")
	put(8, "eight", "If-Match", `W/"7"`).is(t, http.StatusPreconditionFailed, "changed")
	put(8, "eight", "If-Match", `7`).is(t, http.StatusBadRequest, "entity-tag")
	put(8, "eight", "If-None-Match", `*`).is(t, http.StatusPreconditionFailed, "changed")
	put(8, "eight", "If-Match", `"5", "7"`).ok(t, http.StatusOK, nil)
	put(9, "nine", "If-Match", `*`).ok(t, http.StatusOK, nil)
	if p := put(10, "ten", "If-Match", `"8"`).problem(t); p.Seq == nil || *p.Seq != 9 {
		t.Errorf("%+v", p)
	}
	for _, b := range f {
		if a := b.do("GET", path, "", "Cache-Control", "no-cache"); a.body != "nine" {
			t.Errorf("%q", a.body)
		}
	}
	f[0].do("PUT", "/v1/items/"+public(key)+"/none", document(key, "none", 1, "x"), "Content-Type", asJSON, "If-Match", `*`).is(t, http.StatusPreconditionFailed, "changed")

	// From one box to another, as it is.
	a := f[0].do("GET", path, "", "Accept", asJSON)
	f[1].do("PUT", path, a.body, "Content-Type", asJSON).ok(t, http.StatusOK, nil)

	forged := strings.Replace(document(key, "news", 20, "forged"), `"seq":20`, `"seq":21`, 1)
	f[0].do("PUT", path, forged, "Content-Type", asJSON).is(t, http.StatusBadRequest, "signature")
	f[0].do("PUT", path, document(key, "other salt", 20, "x"), "Content-Type", asJSON).is(t, http.StatusBadRequest, "signature")
	f[0].do("PUT", path, `{"text":"x","seq":20}`, "Content-Type", asJSON).is(t, http.StatusBadRequest, "document")
	f[0].do("PUT", path, `{"text":"x","seq":20,"sig":"abcd"}`, "Content-Type", asJSON).is(t, http.StatusBadRequest, "signature")
	f[0].do("PUT", path, `{"text":"x","sig":"`+strings.Repeat("ab", 64)+`"}`, "Content-Type", asJSON).is(t, http.StatusBadRequest, "seq")
	f[0].do("PUT", path+strings.Repeat("x", 61), document(key, "", 1, "x"), "Content-Type", asJSON).is(t, http.StatusBadRequest, "salt")
	f[0].do("PUT", path, "plain").is(t, http.StatusForbidden, "forbidden")
}

// escape writes a salt or name as part of a path.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// The box signs with a key of its own, which it keeps, for whom its owner says; each version follows the one before.
func TestSignedByTheBox(t *testing.T) {
	state := t.TempDir()
	b := start(t, "127.0.2.1", "none", "state", state, "gateway.sign", "loopback")
	other := start(t, "127.0.2.2", b.UDP)
	other.Knows(t, 1)
	var about gateway.About
	b.do("GET", "/v1", "").ok(t, http.StatusOK, &about)
	if len(about.Box) != 64 || strings.Join(about.May, " ") != "read put name sign" || about.Caller != "loopback" || about.Network != "private" {
		t.Fatalf("%+v", about)
	}
	path := "/v1/items/" + about.Box + "/state"
	first := b.do("PUT", path, "one")
	first.ok(t, http.StatusCreated, nil)
	b.do("PUT", path, "two").ok(t, http.StatusOK, nil)
	b.do("PUT", path, "three", "If-Match", first.header.Get("Etag")).is(t, http.StatusPreconditionFailed, "changed")
	if a := other.do("GET", path, ""); a.body != "two" {
		t.Errorf("%d %s", a.code, a.body)
	}
	b.do("PUT", path, `{"cow":"moo"}`, "Content-Type", asJSON).is(t, http.StatusBadRequest, "value")
	b.do("PUT", "/v1/items/"+public(seedKey(1))+"/x", "x").is(t, http.StatusForbidden, "foreign-key")

	b.Stop()
	b = start(t, "127.0.2.1", other.UDP, "state", state, "gateway.sign", "loopback")
	var again gateway.About
	b.do("GET", "/v1", "").ok(t, http.StatusOK, &again)
	if again.Box != about.Box {
		t.Errorf("key %s, then %s", about.Box, again.Box)
	}
	b.do("PUT", path, "four").ok(t, http.StatusOK, nil)
}

// Peers that were announced are found.
func TestPeers(t *testing.T) {
	f := fleet(t, 3)
	const infohash = "2c6b6858d61da9543d4231a71db4b1c9264b0685"
	id, err := krpc.ParseID(infohash)
	if err != nil {
		t.Fatal(err)
	}
	var p gateway.Peers
	f[0].do("GET", "/v1/peers/"+infohash, "").ok(t, http.StatusOK, &p)
	if len(p.Peers) != 0 || p.Infohash != infohash {
		t.Errorf("%+v", p)
	}
	if _, err := f[1].Host.Node.Announce(t.Context(), id, 7000, true); err != nil {
		t.Fatal(err)
	}
	for _, b := range f {
		b.do("GET", "/v1/peers/"+strings.ToUpper(infohash), "").ok(t, http.StatusOK, &p)
		if len(p.Peers) != 1 || p.Peers[0] != "127.0.2.2:7000" || p.Seeds != nil {
			t.Errorf("%+v", p)
		}
	}
	f[0].do("GET", "/v1/peers/"+infohash+"?count=true", "").ok(t, http.StatusOK, &p)
	if p.Seeds == nil || *p.Seeds != 1 || *p.Downloaders != 0 {
		t.Errorf("%+v", p)
	}
	p = gateway.Peers{}
	f[0].do("GET", "/v1/peers/"+infohash+"?noseed=1", "").ok(t, http.StatusOK, &p)
	if len(p.Peers) != 0 {
		t.Errorf("%+v", p)
	}
	f[0].do("GET", "/v1/peers/"+infohash+"?count=perhaps", "").is(t, http.StatusBadRequest, "query")
	f[0].do("GET", "/v1/peers/xyz", "").is(t, http.StatusBadRequest, "infohash")
}
