package router_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dchest/siphash"

	"kdht/bpf"
	"kdht/router"
)

// The vectors of the SipHash paper and its reference code: key 00 01 … 0f, message 00 01 02 ….
func TestTokenIsSipHash24(t *testing.T) {
	var key [16]byte
	for i := range key {
		key[i] = byte(i)
	}
	if got := siphash.Hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, append([]byte(nil), key[:15]...)); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash-2-4 of the paper's message = %x, want a129ca6149be45e5", got)
	}
	v, err := router.NewView(&bpf.Snapshot{Secret: key})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"0.1.2.3":                         "b7877127e09427cf",
		"::ffff:0.1.2.3":                  "b7877127e09427cf",
		"1:203:405:607:809:a0b:c0d:e0f":   "db9bc2577fcc2a3f",
		"1:203:405:607:809:a0b:c0d:e0f%4": "db9bc2577fcc2a3f",
	} {
		tok := v.Token(netip.MustParseAddr(addr))
		if got := hex.EncodeToString(tok[:]); got != want {
			t.Errorf("token of %s = %s, want %s", addr, got, want)
		}
	}
}

func TestTokensRotate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	alice, bob := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	tokens := router.NewTokens(router.Secrets{}, 5*time.Minute, now)
	issue := func(a netip.Addr) []byte {
		v, err := router.NewView(&bpf.Snapshot{Secret: tokens.Current()})
		if err != nil {
			t.Fatal(err)
		}
		tok := v.Token(a)
		return tok[:]
	}
	tok := issue(alice)
	valid := func(want bool, when string) {
		t.Helper()
		if got := tokens.Valid(tok, alice); got != want {
			t.Errorf("%s: valid = %v, want %v", when, got, want)
		}
	}
	valid(true, "at once")
	if tokens.Valid(tok, bob) || tokens.Valid(tok[:7], alice) || tokens.Valid(nil, alice) || tokens.Valid(append(tok, 0), alice) {
		t.Error("a token of another address or length is valid")
	}
	if tokens.Rotate(now.Add(5*time.Minute - 1)) {
		t.Error("rotated early")
	}
	if !tokens.Rotate(now.Add(5 * time.Minute)) {
		t.Error("did not rotate")
	}
	valid(true, "after one rotation")

	again := router.NewTokens(tokens.Secrets(), 5*time.Minute, now.Add(6*time.Minute))
	if again.Current() != tokens.Current() || !again.Valid(tok, alice) {
		t.Error("saved secrets were not resumed")
	}
	for when, at := range map[string]time.Time{"stale": now.Add(time.Hour), "from the future": now.Add(-time.Hour)} {
		other := router.NewTokens(tokens.Secrets(), 5*time.Minute, at)
		if other.Current() == tokens.Current() || other.Valid(tok, alice) || other.Valid(issue(alice), alice) {
			t.Errorf("secrets %s were resumed", when)
		}
	}

	tokens.Rotate(now.Add(10 * time.Minute))
	valid(false, "after two rotations")
	tok = issue(alice)
	tokens.Rotate(now.Add(21 * time.Minute))
	valid(false, "after a long sleep")
}

// Once resumed, the age of a secret is told by the monotonic clock: a wall clock that is set back by a year must not make
// tokens valid for a year.
func TestTokensDoNotFollowTheWallClock(t *testing.T) {
	saved := router.Secrets{Current: [16]byte{1}, Previous: [16]byte{2}, Since: time.Now().Add(-time.Minute).Round(0)}
	tokens := router.NewTokens(saved, 5*time.Minute, time.Now())
	s := tokens.Secrets()
	if s.Current != saved.Current || !strings.Contains(s.Since.String(), "m=") {
		t.Errorf("resumed as %x, made %v", s.Current, s.Since)
	}
}

// Secrets that are to live longer than usual do so across restarts too.
func TestTokensOfLongLife(t *testing.T) {
	now := time.Now()
	saved := router.Secrets{Current: [16]byte{1}, Previous: [16]byte{2}, Since: now.Add(-12 * time.Minute)}
	if s := router.NewTokens(saved, time.Hour, now).Secrets(); s.Current != saved.Current || s.Previous != saved.Previous {
		t.Errorf("%+v", s)
	}
	if s := router.NewTokens(saved, 10*time.Minute, now).Secrets(); s.Previous != saved.Current {
		t.Errorf("%+v", s)
	}
}
