package tools_test

import (
	"bufio"
	"crypto/ed25519"
	"html"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"kdht/appliance"
	"kdht/appliance/boxtest"
	"kdht/appliance/tools"
	"kdht/router"
	"kdht/router/krpc"
)

// box is a node with its page.
type box struct{ *boxtest.Box }

// start runs a node on a loopback address of its own. values are keys and values of its configuration.
func start(t *testing.T, address, bootstrap string, values ...string) box {
	t.Helper()
	return box{boxtest.Start(t, boxtest.Options{Extensions: []appliance.Extension{tools.Extension()}, Values: values}, address, bootstrap)}
}

// fleet runs n nodes that know each other.
func fleet(t *testing.T, n int) []box {
	t.Helper()
	boxes := []box{start(t, "127.0.4.1", "none")}
	for i := 1; i < n; i++ {
		boxes = append(boxes, start(t, netip.AddrFrom4([4]byte{127, 0, 4, byte(i + 1)}).String(), boxes[0].UDP))
	}
	for _, b := range boxes {
		b.Knows(t, n-1)
	}
	return boxes
}

// get fetches a page, which is whole and has no script.
func (b box) get(t *testing.T, path string, query url.Values, code int, header ...string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, b.URL+path+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	if res.StatusCode != code || !strings.HasSuffix(strings.TrimSpace(page), "</html>") || strings.Contains(page, "<script>") || !strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("%s: %s\n%v\n%s", path, res.Status, res.Header, page)
	}
	if n, m := strings.Count(page, "<table>"), strings.Count(page, "</table>"); n != m {
		t.Errorf("%d tables begin, %d end", n, m)
	}
	return page
}

// verdict is the sentence that a page comes to.
func verdict(page string) string {
	m := regexp.MustCompile(`id="verdict"[^>]*><strong class="word (good|degraded)">([^<]*)<`).FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return m[1] + ": " + html.UnescapeString(m[2])
}

// A lookup is shown node by node, with what it has found: an item, a mutable one, peers, the closest nodes.
func TestLookup(t *testing.T) {
	f := fleet(t, 4)
	node := f[1].Host.Node
	value := []byte("21:<b>Hello & World!</b>")
	item, err := node.PutImmutable(t.Context(), value)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	it := router.Item{K: [32]byte(key.Public().(ed25519.PublicKey)), Salt: []byte("news"), Seq: 7, V: []byte("4:\xff\xfe\xfd\xfc")}
	copy(it.Sig[:], krpc.Sign(key, it.Salt, it.Seq, it.V))
	if _, err := node.PutMutable(t.Context(), it, nil); err != nil {
		t.Fatal(err)
	}
	infohash, err := krpc.ParseID("2c6b6858d61da9543d4231a71db4b1c9264b0685")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Announce(t.Context(), infohash, 7000, true); err != nil {
		t.Fatal(err)
	}
	asker := start(t, "127.0.4.9", f[0].UDP) // which stores nothing of it
	for name, c := range map[string]struct {
		q, what, verdict string
		words            []string
	}{
		"item":          {item.Target.String(), "", "good: Found.", []string{"21:&lt;b&gt;Hello &amp; World!&lt;/b&gt;", "has it, answered in", "from our own table", "24 bytes bencoded"}},
		"mutable":       {"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29/news", "", "good: Found, the newest version at 4 nodes.", []string{"343afffefdfc", "has it", "Sequence number</dt><dd>7<", "&#34;news&#34;"}},
		"peers":         {"magnet:?xt=urn:btih:2c6b6858d61da9543d4231a71db4b1c9264b0685&dn=x", "", "good: Found 1 peer.", []string{"<li><code>127.0.4.2:7000</code></li>", "about 1 seeds, 0 downloaders"}},
		"peers, old":    {"magnet:?xt=urn:btih:FRVWQWGWDWUVIPKCGGTR3NFRZETEWBUF", "", "good: Found 1 peer.", nil},
		"nodes":         {strings.ToUpper(infohash.String()), "nodes", "good: Closest of those that answer: 4 nodes.", []string{"Closest nodes", f[3].Host.Node.ID(router.IPv4).String()}},
		"not there":     {strings.Repeat("ab", 20), "item", "degraded: Not found: no node that should have it has it.", []string{"names ", "answered 4, failed 0"}},
		"pkarr's key":   {"pk:o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy", "peers", "degraded: Not found: no node that should have it has it.", nil},
		"spaces around": {" " + item.Target.String() + "\n", "item", "good: Found.", nil},
	} {
		t.Run(name, func(t *testing.T) {
			page := asker.get(t, "/lookup", url.Values{"q": {c.q}, "what": {c.what}}, http.StatusOK)
			if got := verdict(page); got != c.verdict {
				t.Errorf("%s, want %s", got, c.verdict)
			}
			for _, w := range append(c.words, `<ol class="hops">`, `>Looking for`, `<svg class="way"`) {
				if !strings.Contains(page, w) {
					t.Errorf("no %q in\n%s", w, page)
				}
			}
			if n := strings.Count(page, "<br>from our own table") + strings.Count(page, "<br>named by"); n == 0 {
				t.Error("no nodes")
			}
		})
	}
	for _, q := range []string{"x", strings.Repeat("a", 39), strings.Repeat("z", 64), "magnet:?xt=urn:btih:zz", `"><script>alert(1)</script>`} {
		if page := asker.get(t, "/lookup", url.Values{"q": {q}}, http.StatusBadRequest); !strings.Contains(page, "Nothing was looked up") {
			t.Errorf("%q: %s", q, page)
		}
	}
	if page := asker.get(t, "/lookup", nil, http.StatusOK); !strings.Contains(page, `<form action="/lookup">`) || verdict(page) != "" {
		t.Error(page)
	}
	status := asker.get(t, "/", nil, http.StatusOK)
	for _, w := range []string{`<form action="/lookup">`, `<form action="/decode">`} {
		if !strings.Contains(status, w) {
			t.Errorf("no %q on the status page", w)
		}
	}
}

// The rows of a lookup come while it is under way.
func TestLookupAsItGoes(t *testing.T) {
	f := fleet(t, 4)
	f[3].Stop() // who is silent holds the lookup up
	res, err := http.Get(f[0].URL + "/lookup?what=nodes&q=" + strings.Repeat("ab", 20))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for in.Scan() && !strings.Contains(in.Text(), "answered in") {
	}
	if n := f[0].Host.Node.Stats().Lookups; n < 1 { // the node may have some of its own
		t.Errorf("%d lookups are under way at the first row", n)
	}
	rest := ""
	for in.Scan() {
		rest += in.Text() + "\n"
	}
	if got := verdict(rest); got != "good: Closest of those that answer: 2 nodes." || !strings.Contains(rest, "no answer yet after ") {
		t.Errorf("%s\n%s", got, rest)
	}
}

// Who may not have the box look things up is told so, also when another page has sent him.
func TestLookupIsNotForEverybody(t *testing.T) {
	b := start(t, "127.0.4.1", "none", "recursion.allow", "none", "gateway.read", "off")
	q := url.Values{"q": {strings.Repeat("ab", 20)}}
	b.get(t, "/lookup", q, http.StatusOK) // the machine itself
	if page := b.get(t, "/lookup", q, http.StatusForbidden, "X-Forwarded-For", "198.51.100.7"); !strings.Contains(page, "recursion.allow") {
		t.Error(page)
	}
	if page := b.get(t, "/lookup", q, http.StatusForbidden, "Sec-Fetch-Site", "cross-site"); !strings.Contains(page, "you come from another page") || !strings.Contains(page, q.Get("q")) {
		t.Error(page)
	}
}

// Of a lookup that needed nobody the list says so.
func TestLookupOfWhatIsHere(t *testing.T) {
	b := start(t, "127.0.4.1", "none")
	item, err := b.Host.Node.PutImmutable(t.Context(), []byte("5:hello"))
	if err != nil {
		t.Fatal(err)
	}
	page := b.get(t, "/lookup", url.Values{"q": {item.Target.String()}}, http.StatusOK)
	if !strings.Contains(page, `<li class="quiet">Nobody was asked.</li>`) || verdict(page) != "good: It is stored here, so nobody was asked." {
		t.Error(page)
	}
}

// A browser says over plain HTTP neither who it comes from nor that it comes from elsewhere: what its own form sends along is what counts, so
// that no page can have the box look something up with a picture or a link.
func TestLookupByAnotherPage(t *testing.T) {
	b := start(t, "127.0.4.1", "none")
	q := url.Values{"q": {strings.Repeat("ab", 20)}}
	browser := []string{"User-Agent", "Mozilla/5.0", "Accept-Language", "de"}
	page := b.get(t, "/lookup", q, http.StatusForbidden, browser...)
	for _, form := range []string{page, b.get(t, "/", nil, http.StatusOK, browser...)} {
		m := regexp.MustCompile(`name="from" value="(\w{20,})"`).FindStringSubmatch(form)
		if m == nil {
			t.Fatalf("the form has nothing to send along: %s", form)
		}
		b.get(t, "/lookup", url.Values{"q": q["q"], "from": {m[1]}}, http.StatusOK, browser...)
		b.get(t, "/lookup", url.Values{"q": q["q"], "from": {m[1][1:]}}, http.StatusForbidden, browser...)
	}
	b.get(t, "/lookup", q, http.StatusOK, append(browser, "Sec-Fetch-Site", "none")...) // written by hand, or a bookmark
	b.get(t, "/lookup", q, http.StatusOK)                                               // a program
}

// A datagram is shown whole, with what a node makes of it.
func TestDecode(t *testing.T) {
	b := start(t, "127.0.4.1", "none")
	const ping = "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"
	for name, c := range map[string]struct {
		d, verdict string
		words      []string
	}{
		"as it is": {ping, "good: A query that a node answers.", []string{"56 bytes", "&#34;q&#34;: &#34;ping&#34;", "6162636465666768696a30313233343536373839"}},
		"in hex":   {"64313a6164323a696432303a6162636465666768696a3031323334353637383965313a71343a70696e67313a74313a07313a79313a7165", "good: A query that a node answers.", nil},
		"dumped":   {"0x64 31:3a 61\n64,32 3a-69 64 32 30 3a 61 62 63 64 65 66 67 68 69 6a 30 31 32 33 34 35 36 37 38 39 65 31 3a 71 34 3a 70 69 6e 67 31 3a 74 31 3a 07 31 3a 79 31 3a 71 65", "good: A query that a node answers.", nil},
		"error":    {"d1:eli202e12:Server Errore1:t2:aa1:y1:ee", `good: An error message: 202 ("Server Error").`, nil},
		"refused":  {"d1:ade1:q4:ping1:t2:aa1:y1:qe", "degraded: A node answers it with error 203", nil},
		"dropped":  {"d1:y1:qe", "degraded: A node drops it:", nil},
		"escaped":  {"d1:t2:aa1:y1:q8:<script>i1ee", "degraded: A node", []string{`&lt;script&gt;`}},
	} {
		t.Run(name, func(t *testing.T) {
			page := b.get(t, "/decode", url.Values{"d": {c.d}}, http.StatusOK)
			if got := verdict(page); !strings.HasPrefix(got, c.verdict) {
				t.Errorf("%s, want %s", got, c.verdict)
			}
			for _, w := range c.words {
				if !strings.Contains(page, w) {
					t.Errorf("no %q in\n%s", w, page)
				}
			}
		})
	}
	if page := b.get(t, "/decode", url.Values{"d": {"hello <b>"}}, http.StatusBadRequest); !strings.Contains(page, "neither a datagram in hexadecimal digits nor bencoding") || strings.Contains(page, "<b>") {
		t.Error(page)
	}
	if page := b.get(t, "/decode", nil, http.StatusOK); !strings.Contains(page, "<textarea") {
		t.Error(page)
	}
}

// No text makes the pages fail.
func FuzzQuery(f *testing.F) {
	f.Add("magnet:?xt=urn:btih:2c6b6858d61da9543d4231a71db4b1c9264b0685")
	f.Add("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29/news")
	f.Fuzz(func(t *testing.T, s string) {
		if target, err := tools.ParseQuery(s); err == nil && target.IsZero() && !strings.Contains(s, "0000") {
			t.Errorf("%q is nothing", s)
		}
		tools.Decode(s)
	})
}
