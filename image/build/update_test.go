package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPasswordOfABox takes the password from where gokrazy's tools keep it, and where there is none does without if the box asks for
// none, as in its tailnet; else it says what is missing.
func TestPasswordOfABox(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	status := http.StatusOK
	box := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, sent := r.BasicAuth(); sent || r.URL.Path != "/update/features" {
			t.Errorf("asked for %s, with a password: %t", r.URL, sent)
		}
		w.WriteHeader(status)
	}))
	defer box.Close()
	c := updateCmd{Host: strings.TrimPrefix(box.URL, "http://")}
	if got, err := c.password(t.Context()); got != "" || err != nil {
		t.Errorf("a box that asks for none: %q, %v", got, err)
	}
	for _, status = range []int{http.StatusUnauthorized, http.StatusForbidden} {
		if _, err := c.password(t.Context()); err == nil || !strings.Contains(err.Error(), "--password-file") {
			t.Errorf("a box that answers %d: %v", status, err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "gokrazy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gokrazy", "http-password.txt"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.password(t.Context()); got != "secret" || err != nil {
		t.Errorf("a password that is kept: %q, %v", got, err)
	}
}
