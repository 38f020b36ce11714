package appliance_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"kdht/appliance"
	"kdht/appliance/boxtest"
)

func TestOurName(t *testing.T) {
	for host, want := range map[string]bool{
		"10.0.0.7": true, "10.0.0.7:8080": true, "[fd00::7]:8080": true, "fd00::7": true, "localhost:8080": true, "kdht-a1b2c3": true, "KDHT-A1B2C3.local.": true,
		"kdht-a1b2c3.fritz.box:80": true, "box.lan": true, "box.home.arpa": true, "box.tail1234.ts.net": true, "box.example.org": true, "a.box.example.org:8080": true,
		"example.org": false, "mybox.example.org": false, "evil.example.com": false, "10.0.0.7.evil.example.com": false, "local.example.com": false, "xfritz.box": false, "": false,
	} {
		if got := appliance.OurName(host, []string{"box.example.org"}); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if name, err := os.Hostname(); err != nil || !appliance.OurName(name, nil) {
		t.Errorf("%q, %v", name, err)
	}
}

// A browser that shows a page of somebody who has his name point to the box learns nothing of it, whatever it asks for and pretends to be;
// programs may call the box as they like.
func TestNamesOfOthers(t *testing.T) {
	b := boxtest.Start(t, boxtest.Options{Values: []string{"gateway.hosts", "box.example.org"}}, "127.0.7.1", "none")
	get := func(path, host string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
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
		return res.StatusCode, string(text)
	}
	for name, browser := range map[string][]string{
		"Chromium":                  {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64)", "Accept-Language", "de"},
		"a script that hides":       {"User-Agent", "curl/8.5.0", "Accept-Language", ""},
		"a script, same origin":     {"User-Agent", "curl/8.5.0", "Sec-Fetch-Site", "same-origin"},
		"a browser without headers": {"User-Agent", "Mozilla/5.0"},
	} {
		for _, path := range []string{"/", "/status?format=json", "/live", "/metrics", "/readyz", "/nothing"} {
			if code, text := get(path, "evil.example.com", browser...); code != http.StatusMisdirectedRequest || !strings.Contains(text, "gateway.hosts") || strings.Contains(text, "IPv4") {
				t.Errorf("%s, %s: %d %.200s", name, path, code, text)
			}
		}
		for _, host := range []string{"127.0.0.1:8080", "attic.local", "box.example.org"} {
			if code, text := get("/", host, browser...); code != http.StatusOK {
				t.Errorf("%s as %s: %d %.200s", name, host, code, text)
			}
		}
	}
	if code, text := get("/metrics", "box7.rack.example.com", "User-Agent", "Prometheus/3.5.0"); code != http.StatusOK {
		t.Errorf("a program: %d %.200s", code, text)
	}
}
