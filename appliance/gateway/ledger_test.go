package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/appliance/gateway"
	"kdht/store"
)

// written are the entries of the audit log of a box, the oldest first, without their times.
func written(t *testing.T, b *box) (all []string) {
	t.Helper()
	entries, err := b.Host.Store.Audit(store.MaxAudit)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range slices.Backward(entries) {
		if !a.Put {
			t.Errorf("%+v counts as a change of the box", a)
		}
		all = append(all, a.Who+" "+a.What+" "+a.Outcome)
	}
	return all
}

// What callers with authority write is in the audit log, on the status page, too; what is refused, or put by whoever may read, is not.
func TestWritesAreInTheAuditLog(t *testing.T) {
	const secret = "0123456789abcdef"
	l := newLAN(t, "names.secret", fleetSeed, "gateway.tokens", "backup:"+secret, "gateway.sign", "loopback", "gateway.put", "readers")
	l.self("PUT", "/v1/names/foo", "bar").ok(t, http.StatusCreated, nil)
	l.neighbour("PUT", "/v1/names/foo", "x").is(t, http.StatusUnauthorized, "token-missing")
	l.neighbour("PUT", "/v1/items", "carries its own proof").ok(t, http.StatusCreated, nil)
	l.neighbour("PUT", "/v1/names/foo", "x", "Authorization", "Bearer "+secret).ok(t, http.StatusOK, nil)
	l.neighbour("PUT", "/v1/names/foo", "x", "Authorization", "Bearer "+secret, "If-None-Match", "*").is(t, http.StatusPreconditionFailed, "changed")
	var about gateway.About
	l.self("GET", "/v1", "").ok(t, http.StatusOK, &about)
	l.self("PUT", "/v1/items/"+about.Box+"/s?keep=true", "x").ok(t, http.StatusCreated, nil)
	l.self("DELETE", "/v1/items/"+about.Box+"/s", "").ok(t, http.StatusNoContent, nil)
	l.self("DELETE", "/v1/names/foo", "").ok(t, http.StatusNoContent, nil)
	want := []string{
		"loopback write: PUT /v1/names/foo done",
		"backup from 10.44.0.2 write: PUT /v1/names/foo done",
		"loopback write: PUT /v1/items/" + about.Box + "/s done",
		"loopback write: DELETE /v1/items/" + about.Box + "/s done",
		"loopback write: DELETE /v1/names/foo done",
	}
	if got := written(t, l.box); !slices.Equal(got, want) {
		t.Errorf("the audit log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changes := l.box.Host.Report().Changes; len(changes) != 5 || changes[3].Who != "backup from 10.44.0.2" {
		t.Errorf("the status has %+v", changes)
	}
}

// A program that writes all the time has an entry an hour, and however much different it writes, there is a bound.
func TestAuditLogOfABusyProgram(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "names.secret", fleetSeed)
	g := gateway.New(gateway.Options{Config: b.Host.Config, Node: b.Host.Node, Store: b.Host.Store, Log: quiet})
	now := time.Unix(1_800_000_000, 0)
	g.SetClock(func() time.Time { return now })
	put := func(name string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPut, "/v1/names/"+name, strings.NewReader("x"))
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		w := httptest.NewRecorder()
		if g.Handler().ServeHTTP(w, r); w.Code/100 != 2 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	for range 3 {
		put("foo")
		now = now.Add(time.Minute)
	}
	now = now.Add(time.Hour)
	put("foo")
	for n := range 120 {
		put(fmt.Sprint("n", n))
	}
	now = now.Add(time.Hour)
	put("foo")
	got := written(t, b)
	last := len(got) - 1
	if len(got) != 2+99+1 || got[0] != "loopback write: PUT /v1/names/foo done" || got[1] != "loopback write: PUT /v1/names/foo done (2 times more since the entry before)" ||
		got[last] != "loopback write: PUT /v1/names/foo done (21 other writes have no entry)" {
		t.Errorf("%d entries: %q", len(got), got)
	}
}
