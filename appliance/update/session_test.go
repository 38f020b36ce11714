package update_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kdht/appliance/update/testdisk"
)

// TestTwoClients keeps the root of one client and the kernel of another from being tried together.
func TestTwoClients(t *testing.T) {
	b := newBench(t)
	from := func(address, method, path string, body []byte) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/"+path, bytes.NewReader(body))
		r.RemoteAddr = address + ":1"
		r.SetBasicAuth("gokrazy", password)
		w := httptest.NewRecorder()
		b.m.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	root, boot := testdisk.File(t, "v2.squashfs"), testdisk.File(t, "v2.fat")
	if code, text := from("10.0.0.1", http.MethodPut, "update/root", root); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for path, method := range map[string]string{
		"update/root": "PUT", "update/boot": "PUT", "update/mbr": "PUT", "update/switch": "POST", "update/rollback": "POST", "update/manifest": "PUT", "update/apply": "POST",
	} {
		code, text := from("10.0.0.2", method, path, root)
		if code != http.StatusConflict || !strings.Contains(text, "in the middle of an update (gokrazy client from 10.0.0.1): wait until it is done, or ") {
			t.Errorf("%s of another one: %d %s", path, code, text)
		}
	}
	if history := b.m.Status().History; len(history) != 0 {
		t.Errorf("%+v", history)
	}
	for _, step := range []struct {
		method, path string
		body         []byte
	}{{"PUT", "update/boot", boot}, {"POST", "update/switch", nil}} {
		if code, text := from("10.0.0.1", step.method, step.path, step.body); code != http.StatusOK {
			t.Fatalf("%s: %d %s", step.path, code, text)
		}
	}
	// Whose update has failed has none any more.
	if code, _ := from("10.0.0.1", http.MethodPut, "update/root", []byte("garbage")); code != http.StatusUnprocessableEntity {
		t.Errorf("garbage: %d", code)
	}
	if code, text := from("10.0.0.2", http.MethodPut, "update/root", root); code != http.StatusOK {
		t.Errorf("after a failure: %d %s", code, text)
	}
}
