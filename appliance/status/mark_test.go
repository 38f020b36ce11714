package status

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What [Doubt] has somebody say is good for what he was asked about, for who has the address and the credentials that he had, and for ten minutes.
func TestMarks(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	request := func(target string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.RemoteAddr, r.Host = "192.0.2.1:40000", "10.0.0.7"
		r.SetBasicAuth("gokrazy", "right")
		return r
	}
	if confirmed(request("/v1/peers/a?ipv=4"), now) {
		t.Error("without a mark")
	}
	link := marked(request("/v1/peers/a?ipv=4&wanted=1800000600.old"), now)
	if !strings.HasPrefix(link, "/v1/peers/a?ipv=4&wanted=1800000600.") || strings.Contains(link, "old") {
		t.Errorf("the link is %s", link)
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		after  time.Duration
		want   bool
	}{
		"at once":                {func(*http.Request) {}, 0, true},
		"by a new connection":    {func(r *http.Request) { r.RemoteAddr = "192.0.2.1:40001" }, time.Minute, true},
		"the head of it":         {func(r *http.Request) { r.Method = http.MethodHead }, 0, true},
		"at the end of its time": {func(*http.Request) {}, 599 * time.Second, true},
		"too late":               {func(*http.Request) {}, 600 * time.Second, false},
		"later than it says":     {func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "=18", "=19", 1) }, 600 * time.Second, false},
		"from elsewhere":         {func(r *http.Request) { r.RemoteAddr = "192.0.2.2:40000" }, 0, false},
		"with other credentials": {func(r *http.Request) { r.SetBasicAuth("gokrazy", "wrong") }, 0, false},
		"without credentials":    {func(r *http.Request) { r.Header.Del("Authorization") }, 0, false},
		"under another name":     {func(r *http.Request) { r.Host = "box.lan" }, 0, false},
		"another path":           {func(r *http.Request) { r.URL.Path = "/v1/peers/b" }, 0, false},
		"another query":          {func(r *http.Request) { r.URL.RawQuery += "&ipv=6" }, 0, false},
		"another method":         {func(r *http.Request) { r.Method = http.MethodPut }, 0, false},
	} {
		r := request(link)
		c.change(r)
		if got := confirmed(r, now.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A target stays what it is, and on this box.
func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"/":                       "/",
		"/a%2Fb/c?x=%22%3Cb%3E&y": "/a%2Fb/c?x=%22%3Cb%3E&y",
		"/a?wanted=1.x":           "/a",
		"/a?wanted=1.x&b=2&wanted=2.y&unwanted=3": "/a?b=2&unwanted=3",
		"//evil.example.org/":                     "/evil.example.org/",
	} {
		if got := targetOf(httptest.NewRequest(http.MethodGet, "http://10.0.0.7"+target, nil)); got != want {
			t.Errorf("%s is %s, want %s", target, got, want)
		}
	}
}
