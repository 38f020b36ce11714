package main

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBundle(t *testing.T) {
	t.Chdir(t.TempDir())
	code, disposition, broken := http.StatusOK, `attachment; filename="kdht-attic-1.tar.gz"`, false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/bundle" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/gzip")
		w.Header().Set("Content-Disposition", disposition)
		w.WriteHeader(code)
		_, _ = w.Write([]byte("bundle for " + r.Header.Get("Authorization")))
		if broken {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if r := kdht(t, "bundle", "--http", addr); r.code != exitOK || r.stdout != "kdht-attic-1.tar.gz\n" || read("kdht-attic-1.tar.gz") != "bundle for " {
		t.Errorf("by its own name: %+v", r)
	}
	if fi, err := os.Stat("kdht-attic-1.tar.gz"); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v %v", fi.Mode(), err)
	}
	if r := kdht(t, "bundle", "--http", addr); r.code != exitUsage || !strings.Contains(r.stderr, "kdht-attic-1.tar.gz is there already\n  name another file") {
		t.Errorf("it is there: %+v", r)
	}
	if err := os.WriteFile("token", []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := kdht(t, "bundle", "--http", addr, "--token-file", "token", "x.tar.gz"); r.code != exitOK || read("x.tar.gz") != "bundle for Bearer s3cret" {
		t.Errorf("with a token: %+v", r)
	}
	if r := kdht(t, "bundle", "--http", addr, "--password-file", "token", "p.tar.gz"); r.code != exitOK || read("p.tar.gz") != "bundle for Basic "+base64.StdEncoding.EncodeToString([]byte("gokrazy:s3cret")) {
		t.Errorf("with a password: %+v", r)
	}
	if r := kdht(t, "bundle", "--http", addr, "-"); r.code != exitOK || r.stdout != "bundle for " {
		t.Errorf("to standard output: %+v", r)
	}
	if r := kdhtWith(t, &system{args: []string{"bundle", "--http", addr, "-"}, stdoutIsTerminal: true}); r.code != exitUsage || r.stdout != "" {
		t.Errorf("to a terminal: %+v", r)
	}
	for _, bad := range []string{`attachment; filename="../up.tar.gz"`, `attachment; filename="/etc/passwd"`, `attachment; filename=".tar.gz"`, ""} {
		disposition = bad
		if r := kdht(t, "bundle", "--http", addr); r.code != exitOK || r.stdout != "kdht-bundle.tar.gz\n" {
			t.Errorf("the name is %q: %+v", bad, r)
		}
		if err := os.Remove("kdht-bundle.tar.gz"); err != nil {
			t.Fatal(err)
		}
	}
	if r := kdht(t, "bundle", "--http", addr, filepath.Join("none", "x")); r.code != exitFailure || !strings.Contains(r.stderr, "name a file that can be written") {
		t.Errorf("no such directory: %+v", r)
	}
	broken = true
	if r := kdht(t, "bundle", "--http", addr, "y.tar.gz"); r.code != exitUnreachable || !strings.Contains(r.stderr, "broke off") {
		t.Errorf("it breaks off: %+v", r)
	}
	if _, err := os.Stat("y.tar.gz"); err == nil {
		t.Error("half a bundle is left")
	}
	broken = false
	for want, c := range map[int]struct {
		code int
		text string
	}{
		http.StatusForbidden: {exitRejected, "does not give a bundle to you\n  ask on the machine itself"},
		http.StatusConflict:  {exitFailure, "try again in a moment"},
		http.StatusNotFound:  {exitFailure, "is it the status page of kdht"},
	} {
		code = want
		if r := kdht(t, "bundle", "--http", addr, "z.tar.gz"); r.code != c.code || !strings.Contains(r.stderr, c.text) {
			t.Errorf("%d: %+v", want, r)
		}
	}
	srv.Close()
	if r := kdht(t, "bundle", "--http", addr, "z.tar.gz"); r.code != exitUnreachable {
		t.Errorf("nobody there: %+v", r)
	}
}
