package update

import (
	"net/netip"
	"time"
)

// Guesses are how often somebody may try passwords, by a clock of the test's own.
type Guesses struct{ guesses }

// OnLink says who is on a link.
func (g *Guesses) OnLink(linkAddress func(netip.Addr) (mac [6]byte, ok bool)) {
	g.linkAddress = linkAddress
}

// Try is what a request with a password does.
func (g *Guesses) Try(from netip.Addr, now time.Time, right func() bool) (ok bool, wait time.Duration) {
	return g.try(from, now, right)
}
