package gateway_test

import (
	"crypto/ed25519"
	"net/http"
	"testing"

	"kdht/router/krpc"
)

// keeps says whether a box puts an item again every hour, and which version of it.
func (b *box) keeps(target [20]byte) (seq int64, ok bool) {
	b.t.Helper()
	items, err := b.Host.Store.OwnItems()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, it := range items {
		if it.Target == target {
			return it.Seq, true
		}
	}
	return 0, false
}

// What is put with keep=true is the box's own, with the signature of its owner and in its newest version, until it is deleted;
// all else expires as everything does.
func TestKept(t *testing.T) {
	f := fleet(t, 3, "names.secret", fleetSeed, "gateway.put", "readers")
	key := seedKey(1)
	k := key.Public().(ed25519.PublicKey)
	for name, c := range map[string]struct {
		path, body string
		target     [20]byte
		put        int
	}{
		"immutable": {"/v1/items", `{"text": "Hello World!"}`, krpc.ImmutableTarget([]byte("12:Hello World!")), http.StatusCreated},
		"mutable":   {"/v1/items/" + public(key) + "/s", document(key, "s", 5, "x"), krpc.MutableTarget(k, []byte("s")), http.StatusCreated},
		"no salt":   {"/v1/items/" + public(key), document(key, "", 5, "x"), krpc.MutableTarget(k, nil), http.StatusCreated},
	} {
		t.Run(name, func(t *testing.T) {
			where := c.path
			if name == "immutable" {
				where += "/" + krpc.ID(c.target).String()
			}
			f[0].do("PUT", c.path, c.body, "Content-Type", asJSON).ok(t, c.put, nil)
			if _, ok := f[0].keeps(c.target); ok {
				t.Error("nobody has asked the box to keep it")
			}
			f[0].do("DELETE", where, "").is(t, http.StatusNotFound, "not-kept")
			again := http.StatusOK
			if name == "immutable" {
				again = http.StatusCreated
			}
			f[0].do("PUT", c.path+"?keep=true", c.body, "Content-Type", asJSON).ok(t, again, nil)
			if _, ok := f[0].keeps(c.target); !ok {
				t.Error("the box does not keep it")
			}
			if _, ok := f[1].keeps(c.target); ok {
				t.Error("another box keeps it")
			}
			if name == "mutable" {
				f[1].do("PUT", c.path, document(key, "s", 6, "y"), "Content-Type", asJSON).ok(t, http.StatusOK, nil)
				if seq, ok := f[0].keeps(c.target); !ok || seq != 6 {
					t.Errorf("it keeps version %d, %t", seq, ok)
				}
			}
			if a := f[0].do("DELETE", where, ""); a.code != http.StatusNoContent {
				t.Errorf("%d %s", a.code, a.body)
			}
			if _, ok := f[0].keeps(c.target); ok {
				t.Error("the box keeps it still")
			}
			f[0].do("DELETE", where, "").is(t, http.StatusNotFound, "not-kept")
			f[2].do("GET", where, "").ok(t, http.StatusOK, nil)
		})
	}
	f[0].do("PUT", "/v1/items?keep=perhaps", "x").is(t, http.StatusBadRequest, "query")
	// Readers may put what proves itself; to bind the box to it takes more.
	from := []string{"X-Forwarded-For", "10.0.0.9"}
	f[0].do("PUT", "/v1/items", "x", from...).ok(t, http.StatusCreated, nil)
	f[0].do("PUT", "/v1/items?keep=true", "x", from...).is(t, http.StatusForbidden, "forbidden")
	f[0].do("DELETE", "/v1/items/"+krpc.ImmutableTarget([]byte("1:x")).String(), "", from...).is(t, http.StatusForbidden, "forbidden")
	// Names are kept anyway, and go by their own path.
	f[0].do("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	f[0].do("DELETE", "/v1/items/"+public(seedKey(9))+"/foo", "").is(t, http.StatusForbidden, "is-a-name")
	f[1].do("GET", "/v1/names/foo", "").ok(t, http.StatusOK, nil)
}
