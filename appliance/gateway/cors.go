package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// What scripts of other origins may send and see, and for how long browsers remember that, in seconds.
const (
	corsHeaders = "Accept, Authorization, Cache-Control, Content-Type, If-Match, If-Modified-Since, If-None-Match"
	corsExpose  = "ETag, Kdht-Partial, Kdht-Seq, Kdht-Signature, Kdht-Target, Last-Modified, Location, Memento-Datetime, Pkarr-Dht-Stored-Nodes, Retry-After"
	corsAge     = "600"
)

// cors sets the headers that let scripts of the configured origins use an answer (the CORS protocol of the Fetch standard).
// It reports whether the request was a preflight, which is answered then.
func (g *Gateway) cors(w http.ResponseWriter, r *http.Request, methods []string) (answered bool) {
	h := w.Header()
	if len(g.config.Gateway.Origins) > 0 {
		h.Add("Vary", "Origin")
	}
	allowed := g.allowedOrigin(r)
	if allowed != "" {
		h.Set("Access-Control-Allow-Origin", allowed)
		h.Set("Access-Control-Expose-Headers", corsExpose)
	}
	if r.Method != http.MethodOptions {
		return false
	}
	allow := strings.Join(append(slices.Clone(methods), http.MethodOptions), ", ")
	h.Set("Allow", allow)
	if allowed != "" {
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", corsAge)
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowedOrigin is the origin whose scripts may use the answer to a request: its own, "*" for all, or "" for none.
func (g *Gateway) allowedOrigin(r *http.Request) string {
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return ""
	case slices.Contains(g.config.Gateway.Origins, origin):
		return origin
	case slices.Contains(g.config.Gateway.Origins, "*"):
		return "*"
	}
	return ""
}
