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
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
	case slices.Contains(g.config.Gateway.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	case slices.Contains(g.config.Gateway.Origins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	}
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Expose-Headers", corsExpose)
	}
	if r.Method != http.MethodOptions {
		return false
	}
	allow := strings.Join(append(slices.Clone(methods), http.MethodOptions), ", ")
	h.Set("Allow", allow)
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", corsAge)
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}
