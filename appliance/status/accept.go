package status

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// wantsJSON decides between the page and JSON: what the query says, else what Accept prefers. Where it prefers neither,
// as that of curl, /status is JSON and / the page.
func wantsJSON(r *http.Request) bool {
	if f := r.URL.Query().Get("format"); f != "" {
		return f == "json"
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	json, html := Quality(accept, "application", "json"), Quality(accept, "text", "html")
	if json == html {
		return r.URL.Path == "/status"
	}
	return json > html
}

// Quality returns how much an Accept header wants a media type (RFC 9110 section 12.5.1): the q of its most specific
// range that matches, 0 if none does.
func Quality(accept, typ, subtype string) (q float64) {
	best := 0
	for _, part := range strings.Split(accept, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		var specific int
		switch media {
		case typ + "/" + subtype:
			specific = 3
		case typ + "/*":
			specific = 2
		case "*/*":
			specific = 1
		}
		if specific <= best {
			continue
		}
		best, q = specific, 1
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				q = 0
			}
		}
	}
	return q
}
