package gateway

import (
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"kdht/bpf/limit"
)

// maxLookups bounds the lookups and puts under way for clients.
const maxLookups = 64

// rates holds clients to a rate of requests, in memory of fixed size.
type rates struct {
	params limit.Params
	epoch  time.Time
	seed   uint64

	mu    sync.Mutex
	table limit.Table
}

func newRates(perSecond float64, burst int) *rates {
	c := limit.Config{Rate: perSecond, Burst: burst}
	r := &rates{params: c.Params(), epoch: time.Now()}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	r.seed = binary.LittleEndian.Uint64(b[:])
	return r
}

// admit takes a token of a client and reports whether there was one.
func (r *rates) admit(a netip.Addr, now time.Time) bool {
	h := limit.HashOf(r.seed, a)
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, _ := r.table[h.Set()].Take(r.params, h, limit.Time(now.Sub(r.epoch)), func() bool { return false })
	return ok
}

// tooMany is the problem of a client that asks too often.
func tooMany() *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Code: "too-many", Retry: time.Second,
		Detail: "Your address sends more requests than this box takes from one: gateway.perSecond in its configuration."}
}

// begin takes one of the places for lookups; ok says whether there was one.
func (g *Gateway) begin() (end func(), ok bool) {
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places }, true
	default:
		return nil, false
	}
}
