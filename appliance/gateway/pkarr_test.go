package gateway_test

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"kdht/appliance/fleet/foreign"
	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// zKey writes a public key in z-base-32.
func zKey(k ed25519.PrivateKey) string {
	return base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding).EncodeToString(k.Public().(ed25519.PublicKey))
}

// packet is a DNS message with TXT records, as pkarr clients publish it.
func packet(t testing.TB, ttl uint32, texts ...string) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	b.EnableCompression()
	if err := b.StartAnswers(); err != nil {
		t.Fatal(err)
	}
	for _, s := range texts {
		h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("_x." + zKey(seedKey(3)) + "."), Class: dnsmessage.ClassINET, TTL: ttl}
		if err := b.TXTResource(h, dnsmessage.TXTResource{TXT: []string{s}}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// payload is a signed packet as clients send it.
func payload(key ed25519.PrivateKey, at int64, message []byte) string {
	v := append(fmt.Appendf(nil, "%d:", len(message)), message...)
	b := krpc.Sign(key, nil, at, v)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	return string(append(b, message...))
}

// A key of the public specification, in both forms (z-base-32 of the 32 bytes).
func TestZBase32(t *testing.T) {
	const z = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"
	b := start(t, "127.0.2.1", "none")
	b.do("GET", "/"+z, "").is(t, http.StatusNotFound, "not-found")
	b.do("GET", "/"+z[:51]+"b", "").is(t, http.StatusBadRequest, "key") // bits that mean nothing
	b.do("GET", "/"+strings.Repeat("0", 52), "").is(t, http.StatusBadRequest, "key")
	if a := b.do("GET", "/"+z[:51], ""); a.code != http.StatusNotFound {
		t.Errorf("%d", a.code)
	}
	if res, err := http.Get(b.url + "/healthz"); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusOK { // nothing of the page is hidden
		t.Errorf("%v, %v", res, err)
	}
	if a := b.do("DELETE", "/"+z, ""); a.code != http.StatusMethodNotAllowed {
		t.Errorf("%d", a.code)
	}
}

// What a pkarr client publishes through one box another gets from every box, and from the DHT as the item that pkarr says.
func TestRelay(t *testing.T) {
	f := fleet(t, 4)
	key := seedKey(3)
	path := "/" + zKey(key)
	at := time.Now().Truncate(time.Second).UnixMicro() + 250_000
	one, two := packet(t, 3600, "one"), packet(t, 5, "two", "three")

	f[0].do("GET", path, "").is(t, http.StatusNotFound, "not-found")
	put := f[0].do("PUT", path, payload(key, at, one))
	if put.ok(t, http.StatusNoContent, nil); put.header.Get("Pkarr-Dht-Stored-Nodes") != "4" || put.body != "" {
		t.Errorf("%v %q", put.header, put.body)
	}
	f[1].do("PUT", path, payload(key, at, one)).ok(t, http.StatusNoContent, nil) // again is no conflict
	for _, b := range f {
		a := b.do("GET", path, "")
		a.ok(t, http.StatusOK, nil)
		if a.body != payload(key, at, one) {
			t.Errorf("%x", a.body)
		}
		modified := time.UnixMicro(at).UTC().Format(http.TimeFormat)
		if h := a.header; h.Get("Content-Type") != "application/pkarr.org/relays#payload" || h.Get("Cache-Control") != "public, max-age=3600" || h.Get("Last-Modified") != modified {
			t.Errorf("%v", a.header)
		}
		if again := b.do("GET", path, "", "If-Modified-Since", modified); again.code != http.StatusNotModified {
			t.Errorf("%d", again.code)
		}
		earlier := time.UnixMicro(at).Add(-time.Second).UTC().Format(http.TimeFormat)
		if again := b.do("GET", path, "", "If-Modified-Since", earlier); again.code != http.StatusOK {
			t.Errorf("%d", again.code)
		}
	}
	it, err := f[3].Host.Node.GetMutable(t.Context(), [32]byte(key.Public().(ed25519.PublicKey)), nil)
	if err != nil || it.Item.Seq != at || string(it.Item.V) != fmt.Sprintf("%d:%s", len(one), one) {
		t.Errorf("%+v, %v", it, err)
	}

	f[2].do("PUT", path, payload(key, at-1, two)).is(t, http.StatusConflict, "older")
	f[2].do("PUT", path, payload(key, at, two)).is(t, http.StatusConflict, "older")
	f[2].do("PUT", path, payload(key, at+1, two), "If-Match", strconv.FormatInt(at-1, 10)).is(t, http.StatusPreconditionFailed, "changed")
	f[2].do("PUT", path, payload(key, at+1, two), "If-Match", "yesterday").is(t, http.StatusBadRequest, "if-match")
	f[2].do("PUT", path, payload(key, at+1, two), "If-Unmodified-Since", time.UnixMicro(at).Add(-time.Second).UTC().Format(http.TimeFormat)).is(t, http.StatusPreconditionFailed, "changed")
	f[2].do("PUT", path, payload(key, at+1, two), "If-Match", strconv.FormatInt(at, 10)).ok(t, http.StatusNoContent, nil)
	f[2].do("PUT", path, payload(key, at+2, two), "If-Unmodified-Since", time.UnixMicro(at).UTC().Format(http.TimeFormat)).ok(t, http.StatusNoContent, nil)
	if a := f[0].do("GET", path, "", "Cache-Control", "no-cache"); a.body != payload(key, at+2, two) || a.header.Get("Cache-Control") != "public, max-age=30" {
		t.Errorf("%v", a.header)
	}

	big := packet(t, 60, strings.Repeat("x", 250), strings.Repeat("x", 250), strings.Repeat("x", 250), strings.Repeat("x", 250))
	whole := payload(key, at+9, two)
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nothing":            {"", http.StatusBadRequest, "payload"},
		"no message":         {whole[:72], http.StatusBadRequest, "payload"},
		"cut off":            {whole[:len(whole)-1], http.StatusBadRequest, "signature"},
		"of another key":     {payload(seedKey(4), at+9, two), http.StatusBadRequest, "signature"},
		"no DNS":             {payload(key, at+9, []byte("no DNS message")), http.StatusBadRequest, "packet"},
		"a future too far":   {whole[:64] + "\xff" + whole[65:], http.StatusBadRequest, "seq"},
		"too large":          {payload(key, at+9, big), http.StatusRequestEntityTooLarge, "too-large"},
		"much too large":     {strings.Repeat("x", 20000), http.StatusRequestEntityTooLarge, "too-large"},
		"an item, no packet": {document(key, "", at+9, "x"), http.StatusBadRequest, "signature"},
	} {
		t.Run(name, func(t *testing.T) { f[0].do("PUT", path, c.body).is(t, c.status, c.code) })
	}
	// An item that is no packet.
	f[0].do("PUT", "/v1/items/"+public(seedKey(5)), document(seedKey(5), "", 1, "x"), "Content-Type", asJSON).ok(t, http.StatusCreated, nil)
	f[1].do("GET", "/"+zKey(seedKey(5)), "").is(t, http.StatusNotFound, "no-packet")
}

// While a packet is being published, another one of its key must say which one it replaces.
func TestRelayConflict(t *testing.T) {
	f := fleet(t, 2)
	f[1].Stop() // from now on a put takes as long as it takes to find that out
	key := seedKey(3)
	at := time.Now().UnixMicro()
	put := func(at int64, header ...string) answer {
		return f[0].do("PUT", "/"+zKey(key), payload(key, at, packet(t, 60, strconv.FormatInt(at, 10))), header...)
	}
	both := func(header ...string) (codes []int) {
		t.Helper()
		var wg sync.WaitGroup
		var a [2]answer
		for i := range a {
			wg.Go(func() { a[i] = put(at+int64(i), header...) })
		}
		wg.Wait()
		at += 2
		return []int{min(a[0].code, a[1].code), max(a[0].code, a[1].code)}
	}
	for try := 0; ; try++ { // of two at once, unless they come one after the other
		codes := both()
		if codes[0] == http.StatusNoContent && codes[1] == http.StatusPreconditionRequired {
			break
		}
		if codes[0] != http.StatusNoContent || codes[1] != http.StatusNoContent && codes[1] != http.StatusConflict || try == 10 {
			t.Fatal(codes)
		}
	}
	seen := f[0].do("GET", "/"+zKey(key), "").header.Get("Last-Modified")
	if seen == "" {
		t.Fatal("it is not there")
	}
	for _, code := range both("If-Unmodified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)) {
		if code == http.StatusPreconditionRequired {
			t.Error(code)
		}
	}
}

// The client of pkarr's own implementation publishes through one box what it gets from the others.
func TestPkarrClient(t *testing.T) {
	node := testenv.NeedTool(t, "node")
	testenv.NeedTool(t, "npm")
	script, err := foreign.InstallPkarr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := fleet(t, 3)
	out, err := exec.CommandContext(t.Context(), node, script, f[0].url, f[1].url, f[2].url+"/").Output()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Key    string
		Put    []int
		Got    []string
		Micros int64
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := zKey(seedKey(7)); r.Key != want || fmt.Sprint(r.Put) != "[204 204 409]" || fmt.Sprint(r.Got) != "[second second second]" {
		t.Errorf("%s, key %s", out, want)
	}
	// What it has published is valid for whoever knows nothing of pkarr.
	it, err := f[1].Host.Node.GetMutable(t.Context(), [32]byte(seedKey(7).Public().(ed25519.PublicKey)), nil)
	if err != nil || it.Item.Seq != r.Micros+1 {
		t.Errorf("%+v, %v", it, err)
	}
}
