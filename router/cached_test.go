package router_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"kdht/router"
)

// A get that accepts what was fetched lately asks nobody twice, sees what the node itself puts meanwhile, and asks again when
// its time is over; a get without the option always asks.
func TestGetFromCache(t *testing.T) {
	sim(t, func(t *testing.T, s *simNet) {
		n, _, _, immutable, fleet := resumable(t, s)
		var key ed25519.PrivateKey
		var one router.Item
		for i := byte(0); ; i++ { // an item that the node does not store
			key = ed25519.NewKeyFromSeed(append(make([]byte, 31), i))
			one = signedItem(key, "", "3:one", 1)
			if _, err := fleet[0].PutMutable(t.Context(), one, nil); err != nil {
				t.Fatal(err)
			}
			if !n.store.Holds(one.Target) {
				break
			}
		}
		mutable := func(want string, opts ...router.Option) func() {
			return func() {
				t.Helper()
				if r, err := n.GetMutable(t.Context(), one.K, nil, opts...); err != nil || string(r.Item.V) != want {
					t.Errorf("%+v, %v, want %s", r, err, want)
				}
			}
		}
		cached := func() {
			if r, err := n.GetImmutable(t.Context(), immutable.Target, router.Cached()); err != nil || string(r.Item.V) != "5:hello" {
				t.Errorf("%+v, %v", r, err)
			}
		}
		asks := func(what string, want bool, get func()) {
			t.Helper()
			time.Sleep(5 * time.Second) // no query of an earlier lookup is under way any more
			if sent := s.queriesDuring(get)[n.addr]; (sent > 0) != want {
				t.Errorf("%s: %d queries", what, sent)
			}
		}
		asks("immutable", true, cached)
		asks("immutable again", false, cached)
		asks("mutable", true, mutable("3:one", router.Cached()))
		asks("mutable again", false, mutable("3:one", router.Cached()))
		asks("mutable, none of the cache", true, mutable("3:one"))
		if _, err := n.PutMutable(t.Context(), signedItem(key, "", "3:two", 2), nil); err != nil {
			t.Fatal(err)
		}
		asks("after a put", true, mutable("3:two", router.Cached()))
		asks("after a put, again", false, mutable("3:two", router.Cached()))
		if _, err := fleet[0].PutMutable(t.Context(), signedItem(key, "", "5:three", 3), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		asks("when its time is over", true, mutable("5:three", router.Cached()))
		stopAll(fleet)
	})
}
