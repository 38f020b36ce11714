package status

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// markName is the parameter of a URL that has its mark.
	markName = "wanted"
	// markLife is for how long a mark is good.
	markLife = 10 * time.Minute
)

// markKey signs the marks that this process gives.
var markKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it never fails
	return key
})

// markOf is the mark with which a request for a target is the wish of who sends it, up to a time in seconds since 1970: what [Doubt] gives to
// who is asked, and a page of another site does not get to see. It is of no use with anything else that gives a sender authority, his address
// or his credentials: so whoever could get one for somebody else's browser to use could ask for the same himself.
func markOf(r *http.Request, target string, until int64) string {
	from := r.RemoteAddr
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	mac := hmac.New(sha256.New, markKey())
	_, _ = fmt.Fprintf(mac, "%d %q %q %q %q", until, from, r.Header.Values("Authorization"), r.Host, target) // it never fails
	return fmt.Sprintf("%d.%s", until, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]))
}

// targetOf is what a request asks for, without its mark.
func targetOf(r *http.Request) string {
	var query []string
	for _, p := range strings.Split(r.URL.RawQuery, "&") {
		if p != "" && !strings.HasPrefix(p, markName+"=") {
			query = append(query, p)
		}
	}
	u := url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: strings.Join(query, "&")}
	return "/" + strings.TrimLeft(u.RequestURI(), "/")
}

// marked is a target with a mark.
func marked(r *http.Request, now time.Time) string {
	target := targetOf(r)
	mark := markName + "=" + markOf(r, target, now.Add(markLife).Unix())
	if strings.Contains(target, "?") {
		return target + "&" + mark
	}
	return target + "?" + mark
}

// Confirmed reports whether somebody has said, on the page of [Doubt], that he wants what the request asks for, within the last 10 minutes.
func Confirmed(r *http.Request) bool { return confirmed(r, time.Now()) }

func confirmed(r *http.Request, now time.Time) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	mark := r.URL.Query().Get(markName)
	end, _, _ := strings.Cut(mark, ".")
	until, err := strconv.ParseInt(end, 10, 64)
	return err == nil && now.Unix() < until && hmac.Equal([]byte(mark), []byte(markOf(r, targetOf(r), until)))
}
