package router_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"kdht/router"
)

func randomID(r *rand.Rand) (id router.ID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// sharing returns a random ID that shares exactly n bits with self.
func sharing(r *rand.Rand, self router.ID, n int) router.ID {
	id := randomID(r)
	for i := range n {
		id = withBit(id, i, bit(self, i))
	}
	return withBit(id, n, !bit(self, n))
}

func bit(id router.ID, i int) bool { return id[i/8]>>(7-i%8)&1 == 1 }

func withBit(id router.ID, i int, set bool) router.ID {
	id[i/8] &^= 0x80 >> (i % 8)
	if set {
		id[i/8] |= 0x80 >> (i % 8)
	}
	return id
}

func TestPrefixLen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 160 {
		a := randomID(r)
		b := sharing(r, a, n)
		if got := router.PrefixLen(a, b); got != n {
			t.Errorf("PrefixLen(%v, %v) = %d, want %d", a, b, got, n)
		}
	}
	a := randomID(r)
	if got := router.PrefixLen(a, a); got != 160 {
		t.Errorf("PrefixLen of equal IDs = %d, want 160", got)
	}
}

func TestCloser(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		target, a := randomID(r), randomID(r)
		b := sharing(r, a, r.IntN(160))
		da, db := router.Distance(target, a), router.Distance(target, b)
		want := bytes.Compare(da[:], db[:]) < 0
		if got := router.Closer(target, a, b); got != want {
			t.Fatalf("Closer(%v, %v, %v) = %v, want %v", target, a, b, got, want)
		}
		if router.Closer(target, a, a) {
			t.Fatalf("Closer(%v, %v, itself) = true", target, a)
		}
	}
}
