package gateway

import "time"

// Keep looks through the store as the keeper of names does now and then.
func (g *Gateway) Keep(now time.Time) error { return g.keep(now) }

// Internals that are fuzzed.
var (
	ParseTags    = parseTags
	ParseZ       = parseZ
	ParsePayload = parsePayload
	OurName      = ourName
)
