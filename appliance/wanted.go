package appliance

import (
	"net/http"
	"net/url"
	"strings"

	"kdht/appliance/status"
)

// Wanted reports whether a GET may be taken for the wish of who sends it; else it has answered it. It stands before what costs something
// or hands something out, because a browser asks for whatever any page names, as a picture or in a frame, with the address, the role in
// the tailnet and the password of who sits before it, though the page does not get to see what comes back.
//
// Programs and bearers of a token are asked nothing. Of a browser it takes what a page cannot make it say: Sec-Fetch-Site, which it sends
// over HTTPS and to localhost only; else an Origin or a Referer of ours, which all our pages have it send. What has none of them, as an
// address that somebody has typed, is answered with a page that asks whether it is wanted, and leads there by a link that says so itself
// ([status.Confirmed]): it works in a browser that sends no Referer, and behind a proxy that has us see another Host than the browser. That the name
// is ours is looked at before ([OurName]); a proxy that changes it has to do that.
func Wanted(w http.ResponseWriter, r *http.Request) bool {
	if ByOurPage(r) {
		return true
	}
	status.Doubt(w, r)
	return false
}

// ByOurPage is [Wanted] for who answers by himself.
func ByOurPage(r *http.Request) bool {
	if !FromBrowser(r) {
		return true
	}
	if agent := r.UserAgent(); strings.HasPrefix(agent, "Deno/") || strings.Contains(agent, "PowerShell/") {
		return true // programs that send what browsers do; a page may not set another User-Agent across origins (CORS)
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return true // a browser sends none by itself, and a page's script only where it may (CORS)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	from := r.Header.Get("Origin")
	if from == "" {
		from = r.Header.Get("Referer")
	}
	u, err := url.Parse(from)
	return err == nil && u.Host != "" && u.Host == r.Host || status.Confirmed(r)
}
