package appliance

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// ownDomains are those in which nobody can register a name and have it point where he likes: a name there is what the network that the
// client is in makes of it, or (ts.net) what Tailscale does.
var ownDomains = []string{"localhost", "local", "internal", "home.arpa", "lan", "home", "corp", "localdomain", "fritz.box", "ts.net"}

// OurName reports whether the host of a request can only mean this machine: an IP address, the machine's own name, one without a dot or in
// a domain of which no registrar gives names away, or one of hosts or below one. Any other may belong to somebody who has it point here,
// so that a page of his that a browser shows has the same origin as ours (DNS rebinding).
func OurName(host string, hosts []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
		return true
	}
	if name, err := os.Hostname(); err == nil && strings.EqualFold(host, name) {
		return true
	}
	within := func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }
	return slices.ContainsFunc(ownDomains, within) || slices.ContainsFunc(hosts, within)
}

// FromBrowser reports whether a request may come from a browser. They all send some of this, and a page cannot keep them from that. Whoever
// sends Sec-Fetch-Mode without Sec-Fetch-Site, which no browser does and no page can have one do, is a program, such as Node's fetch.
func FromBrowser(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Mode") != "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return false
	}
	for _, name := range []string{"Accept-Language", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Origin", "Referer", "Upgrade-Insecure-Requests"} {
		if _, sent := r.Header[name]; sent {
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// onlyOurNames turns browsers away that ask for a name which may be somebody else's, but for requests that anyName picks. Programs may use
// any: what they are told nobody's page gets to see.
func onlyOurNames(hosts []string, anyName func(*http.Request) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !FromBrowser(r) || OurName(r.Host, hosts) || anyName(r) {
			next.ServeHTTP(w, r)
			return
		}
		name, err := os.Hostname()
		if err != nil || name == "" {
			name = "localhost"
		}
		detail := fmt.Sprintf("Anybody can have a name point to this box, and a page of his could then read what it says in your browser: it does not answer browsers by the name %q. "+
			"Ask for it by its IP address or as %s, or put the name, or its domain, into gateway.hosts of the box's configuration.", r.Host, name)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		if !strings.HasPrefix(r.URL.Path, "/v1") {
			http.Error(w, detail, http.StatusMisdirectedRequest)
			return
		}
		h.Set("Content-Type", "application/problem+json") // what programs get there (RFC 9457)
		w.WriteHeader(http.StatusMisdirectedRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{ // the client may have gone
			"type": "about:blank", "title": http.StatusText(http.StatusMisdirectedRequest), "status": http.StatusMisdirectedRequest, "detail": detail, "code": "not-our-name",
		})
	})
}
