package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"kdht/appliance/gateway"
	"kdht/bpf/netns"
	"kdht/bpf/testenv"
)

// lan is a box in a namespace, and clients around it: one of its own machine, one of its LAN, one from elsewhere.
type lan struct {
	box                     *box
	self, neighbour, remote func(method, path, body string, header ...string) answer
}

// newLAN makes one. values are keys and values of the configuration of the box.
func newLAN(t *testing.T, values ...string) lan {
	t.Helper()
	testenv.NeedNetNS(t)
	node, far := netns.New(t, "box"), netns.New(t, "lan")
	prefixes := func(s ...string) (all []netip.Prefix) {
		for _, x := range s {
			all = append(all, netip.MustParsePrefix(x))
		}
		return all
	}
	netns.Veth(t,
		netns.End{NS: node, Name: "eth0", Addrs: prefixes("10.44.0.1/24", "198.18.44.1/24")},
		netns.End{NS: far, Name: "eth0", Addrs: prefixes("10.44.0.2/24", "198.18.44.2/24")})
	b := startIn(t, node, "0.0.0.0:8080", "10.44.0.1", "none", values...)
	via := func(ns *netns.NS, host string) func(method, path, body string, header ...string) answer {
		x := *b
		x.url = "http://" + host
		x.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = ns.Do(func() error { c, err = (&net.Dialer{}).DialContext(ctx, network, addr); return err })
			return c, err
		}}}
		t.Cleanup(x.http.CloseIdleConnections)
		return x.do
	}
	return lan{b, via(node, "10.44.0.1:8080"), via(far, "10.44.0.1:8080"), via(far, "198.18.44.1:8080")}
}

const nobody = "/v1/items/abababababababababababababababababababab"

// Programs of the machine may do everything, those of the LAN read, others nothing; a token opens the door to anybody.
func TestAuthority(t *testing.T) {
	const secret = "0123456789abcdef"
	l := newLAN(t, "names.secret", fleetSeed, "gateway.tokens", "backup:"+secret+",signer:fedcba9876543210", "gateway.sign", "signer")
	bearer := []string{"Authorization", "Bearer " + secret}
	l.self("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	if a := l.neighbour("GET", "/v1/names/foo", ""); a.body != "bar" {
		t.Errorf("%d %s", a.code, a.body)
	}
	l.remote("GET", "/v1/names/foo", "").is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("PUT", "/v1/names/foo", "x").is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("DELETE", "/v1/names/foo", "").is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("PUT", "/v1/items", "x").is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("PUT", "/"+zKey(seedKey(3)), payload(seedKey(3), 1, packet(t, 60, "x"))).is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("PUT", "/v1/names/foo", "neighbour", bearer...).ok(t, http.StatusOK, nil)
	l.remote("PUT", "/v1/names/foo", "remote", bearer...).ok(t, http.StatusOK, nil)
	if a := l.remote("GET", "/v1/names/foo", "", "Authorization", "bearer  "+secret); a.body != "remote" { // RFC 9110: schemes have no case
		t.Errorf("%d %s", a.code, a.body)
	}
	for _, wrong := range []string{"Bearer " + secret + "0", "Bearer", "Bearer ", "Basic " + secret, secret, "Bearer backup:" + secret} {
		a := l.remote("GET", "/v1/names/foo", "", "Authorization", wrong)
		if a.is(t, http.StatusUnauthorized, "token-unknown"); !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Bearer") {
			t.Errorf("%v", a.header)
		}
		l.self("PUT", "/v1/names/foo", "x", "Authorization", wrong).is(t, http.StatusUnauthorized, "token-unknown")
	}
	var about gateway.About
	for _, c := range []struct {
		who    func(method, path, body string, header ...string) answer
		secret string
		caller string
		may    string
	}{
		{l.self, "", "loopback", "read put name"},
		{l.neighbour, "", "lan", "read"},
		{l.neighbour, secret, "backup", "read put name"},
		{l.remote, "fedcba9876543210", "signer", "read put name sign"},
	} {
		var header []string
		if c.secret != "" {
			header = []string{"Authorization", "Bearer " + c.secret}
		}
		c.who("GET", "/v1", "", header...).ok(t, http.StatusOK, &about)
		if about.Caller != c.caller || strings.Join(about.May, " ") != c.may {
			t.Errorf("%s: %+v", c.caller, about)
		}
	}
	l.remote("PUT", "/v1/items/"+about.Box+"/x", "x", "Authorization", "Bearer fedcba9876543210").ok(t, http.StatusCreated, nil)
	l.remote("PUT", "/v1/items/"+about.Box+"/x", "x", bearer...).is(t, http.StatusForbidden, "forbidden")
}

// A program of the machine has its rights by its address. What may be a browser with somebody else's page, or a proxy, has not.
func TestLoopbackIsNotLent(t *testing.T) {
	l := newLAN(t, "gateway.read", "off", "gateway.origins", "https://app.example.org")
	for name, c := range map[string]struct {
		header []string
		ok     bool
	}{
		"by address":              {nil, true},
		"as localhost":            {[]string{"Host", "localhost:8080"}, true},
		"by a short name":         {[]string{"Host", "box:8080"}, true},
		"by a name of the LAN":    {[]string{"Host", "box.local"}, true},
		"IPv6":                    {[]string{"Host", "[::1]:8080"}, true},
		"its own page":            {[]string{"Origin", "http://10.44.0.1:8080", "Sec-Fetch-Site", "same-origin"}, true},
		"a page that may":         {[]string{"Origin", "https://app.example.org", "Sec-Fetch-Site", "cross-site"}, true},
		"rebound name":            {[]string{"Host", "evil.example.com"}, false},
		"rebound name, its page":  {[]string{"Host", "evil.example.com", "Origin", "http://evil.example.com"}, false},
		"another page":            {[]string{"Origin", "https://evil.example.com"}, false},
		"a page without origin":   {[]string{"Origin", "null"}, false},
		"another site":            {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"through a proxy":         {[]string{"X-Forwarded-For", "198.51.100.7"}, false},
		"through another proxy":   {[]string{"Forwarded", "for=198.51.100.7"}, false},
		"through yet another one": {[]string{"Via", "1.1 proxy"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l.box.t = t
			status, code := http.StatusForbidden, "forbidden"
			if strings.HasSuffix(name, "its page") { // browsers learn nothing by such a name
				status, code = http.StatusMisdirectedRequest, "not-our-name"
			}
			if a := l.self("PUT", "/v1/items", name, c.header...); c.ok {
				a.ok(t, http.StatusCreated, nil)
			} else {
				a.is(t, status, code)
			}
			if a := l.self("GET", nobody, "", c.header...); c.ok {
				a.is(t, http.StatusNotFound, "not-found")
			} else {
				a.is(t, status, code)
			}
		})
	}
}

// Who may read, and put what carries its own proof, is as configured.
func TestReaders(t *testing.T) {
	for name, c := range map[string]struct {
		values                   []string
		neighbour, remote, write bool
	}{
		"private network":  {nil, true, false, false},
		"public network":   {[]string{"network", "public", "bootstrap", "none"}, false, false, false},
		"public, on":       {[]string{"network", "public", "bootstrap", "none", "gateway.read", "on"}, true, false, false},
		"private, off":     {[]string{"gateway.read", "off"}, false, false, false},
		"others":           {[]string{"gateway.allow", "198.18.0.0/15"}, false, true, false},
		"nobody":           {[]string{"gateway.allow", "none"}, false, false, false},
		"readers may put":  {[]string{"gateway.put", "readers"}, true, false, true},
		"put without read": {[]string{"gateway.put", "readers", "gateway.read", "off"}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t, append(c.values, "names.secret", fleetSeed)...)
			for _, x := range []struct {
				do  func(method, path, body string, header ...string) answer
				may bool
			}{{l.neighbour, c.neighbour}, {l.remote, c.remote}} {
				if a := x.do("GET", nobody, ""); x.may {
					a.is(t, http.StatusNotFound, "not-found")
				} else {
					a.is(t, http.StatusForbidden, "forbidden")
				}
				if a := x.do("PUT", "/v1/items", "x"); x.may && c.write {
					a.ok(t, http.StatusCreated, nil)
					x.do("PUT", "/"+zKey(seedKey(3)), payload(seedKey(3), 1, packet(t, 60, "x"))).ok(t, http.StatusNoContent, nil)
					x.do("PUT", "/v1/items/"+public(seedKey(1))+"/s", document(seedKey(1), "s", 1, "x"), "Content-Type", asJSON).ok(t, http.StatusCreated, nil)
				} else {
					a.is(t, http.StatusForbidden, "forbidden")
				}
				x.do("PUT", "/v1/names/foo", "x").is(t, http.StatusForbidden, "forbidden")
			}
			l.self("PUT", "/v1/names/foo", "x").ok(t, http.StatusCreated, nil)
		})
	}
}

// A client that asks too much is told to wait, which spares others and the machine itself.
func TestTooManyRequests(t *testing.T) {
	l := newLAN(t, "gateway.perSecond", "0.1", "gateway.burst", "3")
	for range 3 {
		l.neighbour("GET", nobody, "").is(t, http.StatusNotFound, "not-found")
	}
	if a := l.neighbour("GET", nobody, ""); a.code != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", a.code, a.header)
	}
	l.neighbour("GET", nobody, "", "Authorization", "Bearer 0123456789abcdef").is(t, http.StatusTooManyRequests, "too-many") // no guessing either
	l.remote("GET", nobody, "").is(t, http.StatusForbidden, "forbidden")
}

// What a page of another site may have a browser ask for is not looked up: over plain HTTP the browser does not say whose wish it is, but for
// pages of ours, and those that the configuration names. Who looks at the answer is asked.
func TestNothingIsLookedUpForOtherPages(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "gateway.origins", "https://app.example.org", "names.secret", fleetSeed)
	b.do("PUT", "/v1/names/foo", "value").ok(t, http.StatusCreated, nil)
	const target = "/v1/items/2c6b6858d61da9543d4231a71db4b1c9264b0685"
	browser := func(more ...string) []string {
		return append([]string{"User-Agent", "Mozilla/5.0", "Accept-Language", "de"}, more...)
	}
	for _, path := range []string{"/v1/names/foo", target, "/v1/peers/2c6b6858d61da9543d4231a71db4b1c9264b0685", "/" + zKey(seedKey(3))} {
		for name, header := range map[string][]string{
			"a picture":                browser("Accept", "image/avif,image/webp,*/*;q=0.8"),
			"a picture with a referer": browser("Referer", "http://evil.example.com/"),
			"a script":                 browser("Origin", "https://evil.example.com"),
			"a frame without origin":   browser("Origin", "null"),
			"another site":             browser("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"),
		} {
			if a := b.do("GET", path, "", header...); a.code != http.StatusForbidden || !strings.Contains(a.body, `"code":"another-page"`) {
				t.Errorf("%s, %s: %d %s", path, name, a.code, a.body)
			}
		}
		for name, header := range map[string][]string{
			"curl":             {"User-Agent", "curl/8.14.1", "Accept", "*/*"},
			"Deno":             {"User-Agent", "Deno/2.5.0", "Accept-Language", "*"},
			"PowerShell":       {"User-Agent", "Mozilla/5.0 (Windows NT 10.0; de-DE) WindowsPowerShell/5.1.26100"},
			"Node":             {"User-Agent", "node", "Accept-Language", "*", "Sec-Fetch-Mode", "cors"},
			"a page of ours":   browser("Referer", b.URL+"/"),
			"a script of ours": browser("Origin", b.URL),
			"a page that may":  browser("Origin", "https://app.example.org"),
			"typed, localhost": browser("Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"),
		} {
			if a := b.do("GET", path, "", header...); a.code == http.StatusForbidden {
				t.Errorf("%s, %s: %d %s", path, name, a.code, a.body)
			}
		}
		a := b.do("GET", path+"?x=%22%3Cb%3E", "", browser("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")...)
		if a.code != http.StatusForbidden || !strings.Contains(a.body, `href="`+path+`?x=%22%3Cb%3E&amp;wanted=`) || !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || a.header.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s, looked at: %d %v %s", path, a.code, a.header, a.body)
		}
	}
	b.do("GET", "/v1", "", browser("Referer", "http://evil.example.com/")...).ok(t, http.StatusOK, nil)
}

// Scripts of the configured origins may use it, and see what they need; those of others see nothing.
func TestOrigins(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "gateway.origins", "https://app.example.org")
	any := start(t, "127.0.2.2", "none", "gateway.origins", "*")
	none := start(t, "127.0.2.3", "none")
	for _, c := range []struct {
		b             *box
		origin, allow string
	}{
		{b, "https://app.example.org", "https://app.example.org"}, {b, "https://app.example.com", ""}, {b, "", ""},
		{any, "https://app.example.com", "*"}, {none, "https://app.example.org", ""},
	} {
		a := c.b.do("OPTIONS", "/v1/names/foo", "", "Origin", c.origin, "Access-Control-Request-Method", "PUT")
		if h := a.header; a.code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != c.allow || h.Get("Allow") != "GET, HEAD, PUT, DELETE, OPTIONS" {
			t.Errorf("%s: %d %v", c.origin, a.code, h)
		}
		if m := a.header.Get("Access-Control-Allow-Methods"); (c.allow != "") != (m == "GET, HEAD, PUT, DELETE, OPTIONS") {
			t.Errorf("%s: %q", c.origin, m)
		}
		a = c.b.do("GET", "/"+zKey(seedKey(3)), "", "Origin", c.origin)
		if h := a.header; h.Get("Access-Control-Allow-Origin") != c.allow || (c.allow != "") != strings.Contains(h.Get("Access-Control-Expose-Headers"), "ETag") {
			t.Errorf("%s: %d %v", c.origin, a.code, h)
		}
	}
}

// A relay that pages of any origin may use is asked by whatever name its proxy has, preflights included. Nothing else is, and a page that has
// its name point here (DNS rebinding) reads what any page may, and writes nothing, neither as a program of this machine nor as a reader.
func TestPagesOfConfiguredOriginsUseAnyName(t *testing.T) {
	anybody := start(t, "127.0.2.1", "none", "gateway.origins", "*", "gateway.put", "readers", "names.secret", fleetSeed)
	named := start(t, "127.0.2.2", "none", "gateway.origins", "https://app.example.org", "gateway.put", "readers")
	const page, rebound = "https://app.example.org", "http://relay.example.org"
	key := "/" + zKey(seedKey(3))
	for _, path := range []string{key, "/v1", "/v1/names/foo", nobody} {
		for _, c := range []struct {
			b             *box
			origin, allow string
		}{{anybody, page, "*"}, {anybody, "https://app.example.com", "*"}, {anybody, rebound, "*"}, {anybody, "null", "*"}, {named, page, page}} {
			preflight := c.b.do("OPTIONS", path, "", "Host", "relay.example.org", "Origin", c.origin, "Access-Control-Request-Method", "PUT")
			if h := preflight.header; preflight.code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != c.allow || h.Get("Access-Control-Allow-Methods") == "" {
				t.Errorf("%s from %s: %d %v", path, c.origin, preflight.code, h)
			}
			a := c.b.do("GET", path, "", "Host", "relay.example.org", "Origin", c.origin)
			if a.code == http.StatusMisdirectedRequest || a.header.Get("Access-Control-Allow-Origin") != c.allow {
				t.Errorf("%s from %s: %d %v", path, c.origin, a.code, a.header)
			}
		}
		if path == key { // the refusal is no problem document there
			continue
		}
		named.do("GET", path, "", "Host", "relay.example.org", "Origin", rebound).is(t, http.StatusMisdirectedRequest, "not-our-name")
		anybody.do("GET", path, "", "Host", "relay.example.org", "Sec-Fetch-Site", "same-origin").is(t, http.StatusMisdirectedRequest, "not-our-name")
	}
	packet := payload(seedKey(3), 1, packet(t, 60, "x"))
	for _, origin := range []string{rebound, page, "null"} {
		header := []string{"Host", "relay.example.org", "Origin", origin}
		anybody.do("PUT", "/v1/names/foo", "x", header...).is(t, http.StatusForbidden, "forbidden")
		anybody.do("PUT", "/v1/items", "x", header...).is(t, http.StatusForbidden, "forbidden")
		anybody.do("PUT", key, packet, header...).is(t, http.StatusForbidden, "forbidden")
	}
	named.do("PUT", key, packet, "Host", "relay.example.org", "Origin", page).ok(t, http.StatusNoContent, nil) // the page is named, and readers may
	for _, path := range []string{"/", "/status", "/metrics", "/live", "/v1x", key + "/", "/bundle"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, anybody.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "relay.example.org"
		req.Header.Set("Origin", rebound)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// What one client stores here is counted as his, also over HTTP.
func TestQuotaOfAClient(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "store.maxBytesPerSource", "1KiB")
	b.do("PUT", "/v1/items", strings.Repeat("a", 900)).ok(t, http.StatusCreated, nil)
	if p := b.do("PUT", "/v1/items", strings.Repeat("b", 900)).problem(t); p.Status != http.StatusServiceUnavailable || p.Code != "refused" || p.KRPC != 202 || !strings.Contains(p.Detail, "bytes of the source address") {
		t.Errorf("%+v", p)
	}
}

// Who the configuration does not know may be known to another authority, as to one that asks a tailnet; what it grants adds to
// what there is, and an error of it is the answer.
func TestAnotherAuthority(t *testing.T) {
	h := handlerWith(t, func(r *http.Request) (gateway.Caller, error) {
		switch r.Header.Get("Tailnet-User") {
		case "alice":
			return gateway.Caller{Name: "alice", Rights: gateway.Name}, nil
		case "mallory":
			return gateway.Caller{}, &gateway.Problem{Status: http.StatusForbidden, Code: "stranger", Detail: "Go away."}
		}
		return gateway.Caller{}, nil
	})
	for _, c := range []struct {
		from, user, method, path string
		code                     int
		caller                   string
	}{
		{"198.51.100.7:1", "", "GET", "/v1", http.StatusForbidden, ""},
		{"198.51.100.7:1", "alice", "PUT", "/v1/names/foo", http.StatusCreated, ""},
		{"198.51.100.7:1", "alice", "GET", "/v1/names/foo", http.StatusForbidden, ""}, // she may write, not read
		{"10.0.0.7:1", "alice", "GET", "/v1/names/foo", http.StatusOK, ""},            // which everybody on the LAN may
		{"10.0.0.7:1", "alice", "PUT", "/v1/items", http.StatusForbidden, ""},
		{"10.0.0.7:1", "mallory", "GET", "/v1/names/foo", http.StatusForbidden, ""},
		{"10.0.0.7:1", "", "GET", "/v1", http.StatusOK, `"caller":"lan"`},
		{"10.0.0.7:1", "alice", "GET", "/v1", http.StatusOK, `"may":["read","name"]`},
	} {
		req := httptest.NewRequest(c.method, c.path, strings.NewReader("x"))
		req.RemoteAddr = c.from
		req.Header.Set("Tailnet-User", c.user)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.caller) {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}

// For operators of a tailnet the box signs only if the configuration says so.
func TestOperatorsHaveTheBoxSign(t *testing.T) {
	operator := func(*http.Request) (gateway.Caller, error) {
		return gateway.Caller{Name: "alice", Rights: gateway.Read | gateway.Put | gateway.Sign}, nil
	}
	for sign, want := range map[string]string{"loopback": `"may":["read","put"]`, "operators": `"may":["read","put","sign"]`} {
		b := start(t, "127.0.2.1", "none", "gateway.sign", sign)
		h := gateway.New(gateway.Options{Config: b.Host.Config, Node: b.Host.Node, Store: b.Host.Store, Log: quiet, Authorities: []gateway.Authority{operator}}).Requests()
		req := httptest.NewRequest("GET", "/v1", nil)
		req.RemoteAddr = "198.51.100.7:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("gateway.sign %s: %d %s, want %s", sign, w.Code, w.Body, want)
		}
		b.Stop()
	}
}
