package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"kdht/appliance"
	"kdht/appliance/boxtest"
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
	relayed := "/" + zKey(seedKey(3))
	signed := payload(seedKey(3), time.Now().UnixMicro(), packet(t, 60, "x"))
	l.neighbour("PUT", relayed, signed).ok(t, http.StatusNoContent, nil) // as any pkarr client
	l.self("PUT", relayed, signed).ok(t, http.StatusNoContent, nil)
	want := []string{
		"loopback write: PUT /v1/names/foo done",
		"backup from 10.44.0.2 write: PUT /v1/names/foo done",
		"loopback write: PUT /v1/items/" + about.Box + "/s done",
		"loopback write: DELETE /v1/items/" + about.Box + "/s done",
		"loopback write: DELETE /v1/names/foo done",
		"loopback write: PUT " + relayed + " done",
	}
	if got := written(t, l.box); !slices.Equal(got, want) {
		t.Errorf("the audit log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changes := l.box.Host.Report().Changes; len(changes) != 6 || changes[4].Who != "backup from 10.44.0.2" {
		t.Errorf("the status has %+v", changes)
	}
}

// Whoever is known by more than the address that he comes from, as an operator in the tailnet whose addresses may read, has his name there.
func TestAuditLogNamesTheOperator(t *testing.T) {
	operator := func(*http.Request) (gateway.Caller, error) {
		return gateway.Caller{Name: "alice@example.org", Rights: gateway.Read | gateway.Put | gateway.Name}, nil
	}
	b := &box{Box: boxtest.Start(t, boxtest.Options{Extensions: []appliance.Extension{gateway.Extension(operator)}, Values: []string{"names.secret", fleetSeed}}, "127.0.2.1", "none"), t: t}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/v1/names/foo", strings.NewReader("bar"))
	r.RemoteAddr = "[fd7a:115c:a1e0::7]:1"
	w := httptest.NewRecorder()
	if b.Host.Web().ServeHTTP(w, r); w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	if got := written(t, b); len(got) != 1 || !strings.HasPrefix(got[0], "alice@example.org ") {
		t.Errorf("the audit log has %q", got)
	}
}

// A program that writes all the time has an entry an hour, and however much different it writes, there is a bound, which the log says when
// it is reached. It hides nothing that others write.
func TestAuditLogOfABusyProgram(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "names.secret", fleetSeed, "gateway.tokens", "backup:0123456789abcdef")
	g := gateway.New(gateway.Options{Config: b.Host.Config, Node: b.Host.Node, Store: b.Host.Store, Log: quiet})
	now := time.Unix(1_800_000_000, 0)
	g.SetClock(func() time.Time { return now })
	put := func(name string, header ...string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPut, "/v1/names/"+name, strings.NewReader("x"))
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		if header != nil {
			r.Header.Set(header[0], header[1])
		}
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
	put("n119", "Authorization", "Bearer 0123456789abcdef")
	now = now.Add(time.Hour)
	put("foo")
	got := written(t, b)
	last := len(got) - 1
	if len(got) != 2+99+1+1+1 || got[0] != "loopback write: PUT /v1/names/foo done" || got[1] != "loopback write: PUT /v1/names/foo done (2 times more since the entry before)" ||
		got[101] != "loopback write more than 100 different within an hour: others have no entry" ||
		got[102] != "backup from 127.0.0.1 write: PUT /v1/names/n119 done" ||
		got[last] != "loopback write: PUT /v1/names/foo done (21 others have no entry)" {
		t.Errorf("%d entries: %q", len(got), got)
	}
}

// However many callers there are, those that come when there are too many to keep track of share one bound, and nothing is hidden without a word.
func TestAuditLogOfManyCallers(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "names.secret", fleetSeed)
	known := func(r *http.Request) (gateway.Caller, error) {
		return gateway.Caller{Name: r.Header.Get("Tailnet-User"), Rights: gateway.Read | gateway.Name}, nil
	}
	g := gateway.New(gateway.Options{Config: b.Host.Config, Node: b.Host.Node, Store: b.Host.Store, Log: quiet, Authorities: []gateway.Authority{known}})
	now := time.Unix(1_800_000_000, 0)
	g.SetClock(func() time.Time { return now })
	put := func(user int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPut, "/v1/names/foo", strings.NewReader("x"))
		r.RemoteAddr, r.Host = fmt.Sprintf("198.51.%d.%d:1", user>>8, user&255), "box"
		r.Header.Set("Tailnet-User", fmt.Sprint("user", user))
		w := httptest.NewRecorder()
		if g.Handler().ServeHTTP(w, r); w.Code/100 != 2 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	for user := range 256 + 100 + 5 {
		put(user)
	}
	got := written(t, b)
	if last := len(got) - 1; len(got) != 256+100+1 || !strings.HasPrefix(got[last], "user356 from 198.51.1.100 write more than 100 different") {
		t.Errorf("%d entries, the last of which are %q", len(got), got[max(0, last-3):])
	}
	now = now.Add(2 * time.Hour)
	put(1000)
	if got = written(t, b); len(got) != 256+100+1+1 || !strings.HasPrefix(got[len(got)-1], "user1000 from") {
		t.Errorf("an hour later: %d entries, the last is %q", len(got), got[len(got)-1])
	}
}

// Whoever calls himself another name has no more entries than before.
func TestAuditLogOfRenamedCaller(t *testing.T) {
	b := start(t, "127.0.2.1", "none", "names.secret", fleetSeed)
	known := func(r *http.Request) (gateway.Caller, error) {
		return gateway.Caller{Name: r.Header.Get("Tailnet-User"), ID: "user 7", Rights: gateway.Read | gateway.Name}, nil
	}
	g := gateway.New(gateway.Options{Config: b.Host.Config, Node: b.Host.Node, Store: b.Host.Store, Log: quiet, Authorities: []gateway.Authority{known}})
	for n := range 3 {
		r := httptest.NewRequest(http.MethodPut, "/v1/names/foo", strings.NewReader("x"))
		r.Host = "box"
		r.Header.Set("Tailnet-User", fmt.Sprint("name ", n))
		w := httptest.NewRecorder()
		if g.Handler().ServeHTTP(w, r); w.Code/100 != 2 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if got := written(t, b); len(got) != 1 || !strings.HasPrefix(got[0], "name 0 from ") {
		t.Errorf("%q", got)
	}
}
