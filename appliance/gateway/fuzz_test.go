package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kdht/appliance/gateway"
	"kdht/config"
	"kdht/router"
	"kdht/store"
)

// handler is that of a gateway over a node that is alone in its network.
func handler(t testing.TB) http.Handler { return handlerWith(t) }

// handlerWith is that of one that has more authorities.
func handlerWith(t testing.TB, more ...gateway.Authority) http.Handler {
	b := config.New()
	for key, value := range map[string]string{"state": t.TempDir(), "network": "private", "bootstrap": "none", "names.secret": fleetSeed, "gateway.sign": "loopback"} {
		if err := b.Set(key, key, value); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(filepath.Join(cfg.State, "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conns, err := router.Listen(context.Background(), netip.MustParseAddrPort("127.0.3.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := router.New(router.Config{Conns: conns, Store: db, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	return gateway.New(gateway.Options{Config: cfg, Node: n, Store: db, Log: quiet, Authorities: more}).Requests()
}

// checked answers a request, which must be as the OpenAPI document says, and never the fault of the box.
func checked(t *testing.T, h http.Handler, req *http.Request, body []byte) {
	t.Helper()
	req.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	res := w.Result()
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 500 {
		t.Fatalf("%s %s: %s\n%s", req.Method, req.URL, res.Status, got)
	}
	if err := conforms(req, body, res, got); err != nil {
		t.Fatalf("%s %s %v %q: %v\n%d %s", req.Method, req.URL, req.Header, body, err, res.StatusCode, got)
	}
}

// maker makes values from a random source: what the document's schemas allow, what is near it, and noise.
type maker struct{ r *rand.Rand }

func (m maker) one(of ...string) string { return of[m.r.IntN(len(of))] }

func (m maker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	return b
}

func (m maker) digits(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[m.r.IntN(len(alphabet))]
	}
	return string(b)
}

const hexDigits = "0123456789abcdef"

// parameter makes a part of a path.
func (m maker) parameter(name string) string {
	switch m.r.IntN(10) {
	case 0:
		return escape(string(m.bytes(m.r.IntN(80))))
	case 1:
		return m.digits(hexDigits, m.r.IntN(70))
	}
	switch name {
	case "id", "key", "infohash":
		return m.one(public(seedKey(1)), public(seedKey(9)), zKey(seedKey(3)), m.digits(hexDigits, 40), m.digits(hexDigits, 64),
			"e5f96f6f38320f0f33959cb4d3d656452117aadb", m.digits("ybndrfg8ejkmcpqxot1uwisza345h769", 52))
	}
	return m.one("", "s", "news", "a/b", "a%2F%2Fb", "%2E%2E", "%FF", "%00", "gr%C3%B6%C3%9Fe", strings.Repeat("n", 64), strings.Repeat("n", 65))
}

// header makes the value of a header.
func (m maker) header(name string) string {
	switch m.r.IntN(6) {
	case 0:
		return strings.Map(func(r rune) rune { // what net/http lets through
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, string(m.bytes(m.r.IntN(40))))
	case 1:
		return "*"
	case 2:
		return `"` + strconv.FormatInt(m.r.Int64N(20), 10) + m.one("", "-json", "-bencoded") + `"`
	case 3:
		return time.Now().Add(time.Duration(m.r.Int64N(int64(time.Hour)))).UTC().Format(http.TimeFormat)
	case 4:
		return m.one(`W/"1", "2"`, `"1`, "no-cache", strconv.FormatUint(m.r.Uint64(), 10), strings.Repeat(`"1",`, 40))
	}
	return m.one("application/json", "application/octet-stream;q=0.1, application/x-bencode", "*/*", "", "text/html", "Bearer x", "null")
}

// body makes a body of a media type.
func (m maker) body(media string) []byte {
	switch m.r.IntN(8) {
	case 0:
		return m.bytes(m.r.IntN(1200))
	case 1:
		return nil
	case 2:
		return bytes.Repeat([]byte("x"), 900+m.r.IntN(200))
	}
	key, salt := seedKey(byte(1+m.r.IntN(3))), m.one("", "s", "news")
	switch media {
	case "application/json":
		s := document(key, salt, m.r.Int64N(50), m.one("x", "y"))
		if m.r.IntN(3) == 0 { // a byte elsewhere
			b := []byte(s)
			b[m.r.IntN(len(b))] = byte(m.r.Uint32())
			return b
		}
		return []byte(s)
	case "application/x-bencode":
		return []byte(m.one("i42e", "5:hello", "d3:cow3:mooe", "le", "i042e", "d3:moo0:3:cow0:e", strings.Repeat("l", 40)+strings.Repeat("e", 40)))
	}
	return []byte(m.one("x", payload(seedKey(3), 1+m.r.Int64N(50), []byte(m.digits("x", 20)))))
}

// request makes a request for an operation of the document.
func (m maker) request(t *testing.T) (*http.Request, []byte) {
	doc, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	paths := slices.Sorted(maps.Keys(doc.Paths.Map()))
	template := paths[m.r.IntN(len(paths))]
	path := regexp.MustCompile(`\{(\w+)\}`).ReplaceAllStringFunc(template, func(p string) string { return m.parameter(p[1 : len(p)-1]) })
	item := doc.Paths.Map()[template]
	operations := slices.Sorted(maps.Keys(item.Operations()))
	method := operations[m.r.IntN(len(operations))]
	if m.r.IntN(10) == 0 {
		method = m.one("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH")
	}
	if m.r.IntN(4) == 0 {
		path += "?" + m.one("count=true", "count=1&noseed=0", "keep=true", "keep=maybe", "noseed=perhaps", "%zz", "count=%FF")
	}
	var body []byte
	media := m.one("application/json", "application/octet-stream", "application/x-bencode", "text/plain", "a/b; c", "")
	if method == "PUT" {
		body = m.body(media)
	}
	req, err := http.NewRequest(method, "http://127.0.0.1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil // no client can send it
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	for _, h := range []string{"Accept", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Cache-Control", "Origin", "Authorization"} {
		if m.r.IntN(6) == 0 {
			req.Header.Set(h, m.header(h))
		}
	}
	return req, body
}

// Whatever is asked, valid by the document, nearly so or not at all, the answer is as the document says, and the fault is never
// the box's.
func FuzzRequests(f *testing.F) {
	for i := range uint64(200) {
		f.Add(i)
	}
	h := handler(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := maker{rand.New(rand.NewPCG(seed, 0))}
		for range 10 {
			if req, body := m.request(t); req != nil {
				checked(t, h, req, body)
			}
		}
	})
}

// Paths and bodies that no schema made.
func FuzzBytes(f *testing.F) {
	f.Add("PUT", "/v1/names/foo", "application/json", `"1"`, []byte("bar"))
	f.Add("GET", "/v1/items/"+public(seedKey(1))+"/a%2Fb", "*/*", "*", []byte(nil))
	f.Add("PUT", "/v1/items/"+public(seedKey(1))+"/s", "application/json", "", []byte(document(seedKey(1), "s", 1, "x")))
	f.Add("PUT", "/"+zKey(seedKey(3)), "", "1", []byte(payload(seedKey(3), 1, packet(f, 60, "x"))))
	f.Add("GET", "/v1//names/../x", "", "", []byte(nil))
	h := handler(f)
	f.Fuzz(func(t *testing.T, method, path, media, tag string, body []byte) {
		req, err := http.NewRequest(method, "http://127.0.0.1/"+strings.TrimPrefix(path, "/"), bytes.NewReader(body))
		if err != nil || req.URL.Host != "127.0.0.1" {
			return
		}
		for name, value := range map[string]string{"Content-Type": media, "Accept": media, "If-Match": tag, "If-None-Match": tag} {
			req.Header.Set(name, value)
		}
		checked(t, h, req, body)
	})
}

// What is read as entity tags, payloads and keys is what was written.
func FuzzParsers(f *testing.F) {
	f.Add(`"1", W/"2-json", "x"`, []byte(payload(seedKey(3), 1, packet(f, 60, "x"))))
	f.Add("o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy", []byte(nil))
	f.Fuzz(func(t *testing.T, s string, b []byte) {
		_, _ = gateway.ParseTags([]string{s})
		if k, ok := gateway.ParseZ(s); ok && gateway.EncodeZ(k) != s {
			t.Errorf("%q is %x, which is %q", s, k, gateway.EncodeZ(k))
		}
		k := [32]byte(seedKey(3).Public().(ed25519.PublicKey))
		if it, err := gateway.ParsePayload(k, b); err == nil && (len(b) < 73 || string(it.Sig[:]) != string(b[:64]) || it.Seq < 0) {
			t.Errorf("%x: %+v", b, it)
		}
	})
}

// BenchmarkGet gets an item that is stored here, without the network between.
func BenchmarkGet(b *testing.B) {
	h := handler(b)
	do := func(method, path, body string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.RemoteAddr, req.Host = "127.0.0.1:1", "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w
	}
	path := do(http.MethodPut, "/v1/items", "Hello World!").Header().Get("Location")
	for b.Loop() {
		if w := do(http.MethodGet, path, ""); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
