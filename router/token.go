package router

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dchest/siphash"
)

// tokenLife is how long one secret makes write tokens, if the configuration does not say (BEP 5). The tokens of the one before are accepted too, so a
// token is good for 5 to 10 minutes.
const tokenLife = 5 * time.Minute

// Secrets is the state of [Tokens], for saving across restarts.
type Secrets struct {
	Current, Previous [16]byte
	Since             time.Time // when Current was made
}

// Tokens makes and checks the tokens that a node must show to store something here. A token proves that its bearer
// recently received a datagram at the address that it now writes from. Safe for concurrent use.
type Tokens struct {
	secrets atomic.Pointer[Secrets]
	life    time.Duration // of a secret
}

// NewTokens resumes from saved secrets, or makes fresh ones if there are none (the zero Secrets), or they are stale, or
// from a time to come. life is how long one secret makes tokens.
func NewTokens(saved Secrets, life time.Duration, now time.Time) *Tokens {
	t := &Tokens{life: life}
	age := now.Sub(saved.Since)
	if saved.Since.IsZero() || age < 0 || age > 2*life {
		age = 2 * life
	}
	// From here on time is that of the monotonic clock: the wall clock may be set, at some boxes by years.
	saved.Since = now.Add(-age)
	t.secrets.Store(&saved)
	t.Rotate(now)
	return t
}

// Rotate replaces the current secret once it is old enough, and reports whether it did.
func (t *Tokens) Rotate(now time.Time) bool {
	old := t.secrets.Load()
	age := now.Sub(old.Since)
	if age < t.life {
		return false
	}
	s := &Secrets{Current: newSecret(), Previous: old.Current, Since: now}
	if age >= 2*t.life {
		s.Previous = newSecret()
	}
	t.secrets.Store(s)
	return true
}

// Current returns the secret that new tokens are made with.
func (t *Tokens) Current() [16]byte { return t.secrets.Load().Current }

// Secrets returns the whole state.
func (t *Tokens) Secrets() Secrets { return *t.secrets.Load() }

// Valid reports whether tok was made for address a by the current secret or the one before.
func (t *Tokens) Valid(tok []byte, a netip.Addr) bool {
	s := t.secrets.Load()
	current := token(secretWords(s.Current), a)
	previous := token(secretWords(s.Previous), a)
	return subtle.ConstantTimeCompare(tok, current[:])|subtle.ConstantTimeCompare(tok, previous[:]) == 1
}

// token is SipHash-2-4 of the 4 or 16 bytes of an address. The kernel half computes the same.
func token(secret [2]uint64, a netip.Addr) (t [8]byte) {
	var sum uint64
	if FamilyOf(a) == IPv4 {
		b := a.Unmap().As4()
		sum = siphash.Hash(secret[0], secret[1], b[:])
	} else {
		b := a.As16()
		sum = siphash.Hash(secret[0], secret[1], b[:])
	}
	binary.LittleEndian.PutUint64(t[:], sum)
	return t
}

func secretWords(s [16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(s[:8]), binary.LittleEndian.Uint64(s[8:])}
}

func newSecret() (s [16]byte) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}
