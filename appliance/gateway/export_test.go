package gateway

import (
	"net/http"
	"time"
)

// Keep looks through the store as the keeper of names does now and then.
func (g *Gateway) Keep(now time.Time) error { return g.keep(now) }

// Requests serves everything that Extension adds to a server, as that does.
func (g *Gateway) Requests() http.Handler {
	h := g.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isRelayed(r) {
			g.relay(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Parsers that are fuzzed.
var (
	ParseTags    = parseTags
	ParseZ       = ParseZBase32
	ParsePayload = parsePayload
)

// EncodeZ writes a public key in z-base-32.
func EncodeZ(k [32]byte) string { return zbase32.EncodeToString(k[:]) }

// SetClock has the audit log take the time from a function.
func (g *Gateway) SetClock(now func() time.Time) { g.ledger.now = now }
