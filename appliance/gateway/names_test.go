package gateway_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kdht/appliance/boxtest"
	"kdht/appliance/gateway"
	"kdht/router/krpc"
)

// fleetSeed is the secret of the fleet under test.
var fleetSeed = hex.EncodeToString(seedKey(9).Seed())

func names(t *testing.T, b *box) string {
	t.Helper()
	var list gateway.Names
	b.do("GET", "/v1/names", "").ok(t, http.StatusOK, &list)
	var all []string
	for _, n := range list.Names {
		all = append(all, fmt.Sprintf("%s:%d", n.Name, n.Size))
	}
	return strings.Join(all, " ")
}

// What one box of a fleet calls something, every other box knows at once, until it is removed.
func TestNames(t *testing.T) {
	f := fleet(t, 4, "names.secret", fleetSeed)
	f[1].do("GET", "/v1/names/foo", "").is(t, http.StatusNotFound, "not-found")
	f[1].do("DELETE", "/v1/names/foo", "").is(t, http.StatusNotFound, "not-found")
	var s gateway.Stored
	first := f[0].do("PUT", "/v1/names/foo", "bar\n")
	if first.ok(t, http.StatusCreated, &s); s.Stored != 4 {
		t.Errorf("%+v", s)
	}
	for i, b := range f {
		want := fmt.Sprintf("value %d", i)
		if a := b.do("GET", "/v1/names/foo", ""); i == 0 && a.body != "bar\n" {
			t.Errorf("%d %s", a.code, a.body)
		}
		b.do("PUT", "/v1/names/foo", want, "Content-Type", asJSON).ok(t, http.StatusOK, nil) // of any type
		for _, c := range f {
			if a := c.do("GET", "/v1/names/foo", ""); a.body != want {
				t.Errorf("%d %s, want %s", a.code, a.body, want)
			}
		}
	}
	for _, name := range []string{"a/b", "größe", "..", "a b", strings.Repeat("n", 64)} {
		f[2].do("PUT", "/v1/names/"+escape(name), name).ok(t, http.StatusCreated, nil)
		if a := f[3].do("GET", "/v1/names/"+escape(name), ""); a.body != name {
			t.Errorf("%q: %d %s", name, a.code, a.body)
		}
	}
	if a := f[3].do("GET", "/v1/names/a/b", ""); a.body != "a/b" {
		t.Errorf("%d %s", a.code, a.body)
	}
	for _, b := range f {
		if got, want := names(t, b), "..:2 a b:3 a/b:3 foo:7 größe:7 "+strings.Repeat("n", 64)+":64"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}

	present := f[1].do("GET", "/v1/names/foo", "").header.Get("Etag")
	f[1].do("PUT", "/v1/names/foo", "x", "If-Match", first.header.Get("Etag")).is(t, http.StatusPreconditionFailed, "changed")
	f[1].do("DELETE", "/v1/names/foo", "", "If-Match", first.header.Get("Etag")).is(t, http.StatusPreconditionFailed, "changed")
	f[1].do("PUT", "/v1/names/foo", "x", "If-None-Match", "*").is(t, http.StatusPreconditionFailed, "changed")
	f[1].do("DELETE", "/v1/names/foo", "", "If-Match", present).ok(t, http.StatusNoContent, nil)
	for _, b := range f {
		b.do("GET", "/v1/names/foo", "").is(t, http.StatusNotFound, "removed")
		if strings.Contains(names(t, b), "foo") {
			t.Error("a removed name is listed")
		}
	}
	f[1].do("DELETE", "/v1/names/foo", "").is(t, http.StatusNotFound, "not-found")
	f[2].do("PUT", "/v1/names/foo", "x", "If-Match", "*").is(t, http.StatusPreconditionFailed, "changed")
	f[2].do("PUT", "/v1/names/foo", "again", "If-None-Match", "*").ok(t, http.StatusOK, nil)
	if a := f[0].do("GET", "/v1/names/foo", ""); a.body != "again" {
		t.Errorf("%d %s", a.code, a.body)
	}

	f[0].do("PUT", "/v1/names/"+strings.Repeat("n", 65), "x").is(t, http.StatusBadRequest, "name")
	f[0].do("PUT", "/v1/names/%FF", "x").is(t, http.StatusBadRequest, "name")
	f[0].do("PUT", "/v1/names/a%0Ab", "x").is(t, http.StatusBadRequest, "name")
	f[0].do("PUT", "/v1/names/", "x").is(t, http.StatusBadRequest, "name")
	f[0].do("PUT", "/v1/names/foo", "").is(t, http.StatusBadRequest, "value")
	f[0].do("PUT", "/v1/names/foo", strings.Repeat("x", 997)).is(t, http.StatusRequestEntityTooLarge, "too-large")
}

// The list of a box says whether it is all of them.
func TestPartOfTheNames(t *testing.T) {
	f := fleet(t, 8, "names.secret", fleetSeed)
	f[3].do("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	for i, b := range f {
		var list gateway.Names
		a := b.do("GET", "/v1/names", "")
		if a.ok(t, http.StatusOK, &list); list.Partial || a.header.Get("Kdht-Partial") != "" || len(list.Names) != 1 {
			t.Errorf("box %d of 8: %+v, %v", i, list, a.header)
		}
	}
	start(t, "127.0.2.9", f[0].UDP).Knows(t, 8)
	boxtest.Eventually(t, "nobody notices that there is one box more", func() bool {
		var list gateway.Names
		a := f[0].do("GET", "/v1/names", "")
		a.ok(t, http.StatusOK, &list)
		return list.Partial && a.header.Get("Kdht-Partial") == "true"
	})
}

// Two boxes that change a name at the same time both succeed, and all boxes agree on what it is then.
func TestNameIsChangedAtOnce(t *testing.T) {
	f := fleet(t, 3, "names.secret", fleetSeed)
	var wg sync.WaitGroup
	for i, b := range f {
		wg.Go(func() {
			for j := range 5 {
				if a := b.do("PUT", "/v1/names/foo", fmt.Sprintf("%d of %d", j, i)); a.code/100 != 2 {
					t.Errorf("box %d: %d %s", i, a.code, a.body)
				}
			}
		})
	}
	wg.Wait()
	want := f[0].do("GET", "/v1/names/foo", "", "Cache-Control", "no-cache")
	for _, b := range f {
		if a := b.do("GET", "/v1/names/foo", "", "Cache-Control", "no-cache"); a.body != want.body || a.header.Get("Etag") != want.header.Get("Etag") {
			t.Errorf("%s %s, and %s %s", a.body, a.header.Get("Etag"), want.body, want.header.Get("Etag"))
		}
	}
}

// A box that knows only the fleet's public key reads names, keeps them, and changes none; one that knows no key has none.
func TestNamesWithoutSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.key")
	if err := os.WriteFile(file, []byte(fleetSeed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, "127.0.2.1", "none", "names.secret", file)
	b := start(t, "127.0.2.2", a.UDP, "names.key", public(seedKey(9)))
	c := start(t, "127.0.2.3", a.UDP)
	d := start(t, "127.0.2.4", a.UDP, "names.key", public(seedKey(9)), "names.secret", file+".missing")
	a.Knows(t, 3)
	a.do("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	if r := b.do("GET", "/v1/names/foo", ""); r.body != "bar" {
		t.Errorf("%d %s", r.code, r.body)
	}
	for _, x := range []*box{b, d} {
		x.do("PUT", "/v1/names/foo", "x").is(t, http.StatusForbidden, "no-secret")
	}
	c.do("GET", "/v1/names/foo", "").is(t, http.StatusNotFound, "no-fleet")
	c.do("GET", "/v1/names", "").is(t, http.StatusNotFound, "no-fleet")
	// By the key, anybody finds it.
	if r := c.do("GET", "/v1/items/"+public(seedKey(9))+"/foo", ""); r.body != "bar" {
		t.Errorf("%d %s", r.code, r.body)
	}
	if p := d.Host.Report().Problems; !strings.Contains(strings.Join(p, "\n"), "fleet.key.missing") {
		t.Errorf("%q", p)
	}
}

// The names that others have stored at a box become its own, so that they outlive the box that they came from; those that were
// removed are forgotten after a month.
func TestNamesAreKept(t *testing.T) {
	f := fleet(t, 2, "names.secret", fleetSeed)
	f[0].do("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	f[0].do("PUT", "/v1/names/gone", "x").ok(t, http.StatusCreated, nil)
	f[0].do("DELETE", "/v1/names/gone", "").ok(t, http.StatusNoContent, nil)
	f[0].do("PUT", "/v1/items/"+public(seedKey(1))+"/foo", document(seedKey(1), "foo", 1, "x"), "Content-Type", asJSON).ok(t, http.StatusCreated, nil)
	g := gateway.New(gateway.Options{Config: f[1].Host.Config, Node: f[1].Host.Node, Store: f[1].Host.Store, Log: quiet})
	own := func(name string) bool {
		it, err := f[1].Host.Store.Item(krpc.MutableTarget(seedKey(9).Public().(ed25519.PublicKey), []byte(name)))
		if err != nil {
			t.Fatal(err)
		}
		return it.Own
	}
	for _, c := range []struct {
		at        time.Time
		foo, gone bool
	}{{time.Now(), true, true}, {time.Now().Add(31 * 24 * time.Hour), true, false}, {time.Now().Add(31 * 24 * time.Hour), true, false}} {
		if err := g.Keep(c.at); err != nil {
			t.Fatal(err)
		}
		if own("foo") != c.foo || own("gone") != c.gone {
			t.Errorf("at %v foo %v, gone %v", c.at, own("foo"), own("gone"))
		}
	}
	if items, err := f[1].Host.Store.OwnItems(); err != nil || len(items) != 1 {
		t.Errorf("%d own items, %v", len(items), err)
	}
	f[0].Stop()
	if a := f[1].do("GET", "/v1/names/foo", ""); a.body != "bar" {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// Names are there after a restart, also of the only box that knows them.
func TestNamesSurviveRestart(t *testing.T) {
	state := t.TempDir()
	b := start(t, "127.0.2.1", "none", "names.secret", fleetSeed, "state", state)
	b.do("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	b.do("PUT", "/v1/names/gone", "x").ok(t, http.StatusCreated, nil)
	b.do("DELETE", "/v1/names/gone", "").ok(t, http.StatusNoContent, nil)
	b.Stop()
	b = start(t, "127.0.2.1", "none", "names.secret", fleetSeed, "state", state)
	if a := b.do("GET", "/v1/names/foo", ""); a.body != "bar" || names(t, b) != "foo:3" {
		t.Errorf("%d %s, %s", a.code, a.body, names(t, b))
	}
	b.do("GET", "/v1/names/gone", "").is(t, http.StatusNotFound, "removed")
}
