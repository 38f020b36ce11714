package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kdht/appliance/gateway"
)

// Names are put, got, listed and removed at different boxes of a fleet; what goes wrong has its exit code and a hint.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	key, token := filepath.Join(dir, "fleet.key"), filepath.Join(dir, "token")
	public := strings.TrimSpace(kdht(t, "keygen", key).stdout)
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := serve(t, t.TempDir(), "--set", "names.secret="+key, "--set", "discovery=off", "--set", "gateway.tokens=other:0123456789abcdef")
	b := serve(t, t.TempDir(), "--set", "names.key="+public, "--set", "discovery=off", "--bootstrap", a.udp)
	name := func(s *server, args ...string) result {
		return kdht(t, append([]string{"name", args[0], "--http", s.http}, args[1:]...)...)
	}
	ok := func(r result, want string) {
		t.Helper()
		if r.code != exitOK || r.stdout != want {
			t.Errorf("%+v, want %q", r, want)
		}
	}
	fails := func(r result, code int, words ...string) {
		t.Helper()
		for _, w := range words {
			if r.code != code || !strings.Contains(r.stderr, w) || r.stdout != "" {
				t.Errorf("%+v, want %d and %q", r, code, w)
			}
		}
	}
	fails(name(b, "get", "printers/attic"), exitNotFound, "kdht: Nobody in the network knows the name \"printers/attic\"\n")
	if r := name(a, "put", "printers/attic", "10.0.0.9"); r.code != exitOK || !strings.Contains(r.stderr, "stored at 2 nodes, sequence number ") {
		t.Errorf("%+v", r)
	}
	for _, n := range []string{"..", ".", "a//b", "/", "größe & %2F?", "#", " "} {
		if r := name(a, "put", "--token-file", token, n, n); r.code != exitOK {
			t.Errorf("%q: %+v", n, r)
		}
		ok(name(b, "get", n), n)
	}
	ok(name(b, "ls"), " \n#\n.\n..\n/\na//b\ngröße & %2F?\nprinters/attic\n")
	ok(name(b, "get", "printers/attic"), "10.0.0.9")
	var d gateway.Document
	if err := json.Unmarshal([]byte(name(b, "get", "--json", "printers/attic").stdout), &d); err != nil || *d.Text != "10.0.0.9" || d.K != public {
		t.Errorf("%+v, %v", d, err)
	}
	seq := strconv.FormatInt(*d.Seq, 10)
	if r := name(a, "put", "--cas", seq, "printers/attic", "10.0.0.10"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	fails(name(a, "put", "--cas", seq, "printers/attic", "10.0.0.11"), exitRejected, "kdht: somebody has changed it: its sequence number is ", "\n  get it again and decide, then use --cas ")
	fails(name(a, "put", "--new", "printers/attic", "10.0.0.11"), exitRejected, "the name is there already, and --new asks that it not be\n  leave out --new")
	fails(name(a, "put", "--cas", seq, "printers/roof", "10.0.0.11"), exitRejected, "there is no such name", "leave out --cas")
	fails(name(b, "put", "printers/attic", "x"), exitRejected, "can only read names")
	fails(kdht(t, "name", "get", "--http", b.http, "--token", "wrong", "printers/attic"), exitRejected, "no token of this box", "gateway.tokens")
	fails(name(a, "put", "printers/attic", ""), exitUsage, "kdht name rm")
	fails(name(a, "put", "printers/attic", strings.Repeat("x", 997)), exitUsage, "at most 996")
	fails(name(a, "put", "printers/attic"), exitUsage, "give either a value or --file")
	ok(name(a, "rm", "printers/attic"), "")
	fails(name(b, "get", "printers/attic"), exitNotFound, "was removed")
	fails(name(a, "rm", "printers/attic"), exitNotFound, "There is no name")
	fails(kdht(t, "name", "ls", "--http", "127.0.0.1:1"), exitUnreachable, "no box answers")
	fails(kdht(t, "name", "ls", "--http", "nowhere"), exitUsage, "no address with a port")
}

// A list that may lack names says so, where it is no part of the list.
func TestPartOfTheNames(t *testing.T) {
	for partial, words := range map[string]string{"true": "there may be others", "false": ""} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"fleet": "", "names": [{"name": "a", "seq": 1, "size": 1}], "partial": `+partial+`}`)
		}))
		r := kdht(t, "name", "ls", "--http", strings.TrimPrefix(srv.URL, "http://"))
		srv.Close()
		if r.code != exitOK || r.stdout != "a\n" || !strings.Contains(r.stderr, words) || (words == "") != (r.stderr == "") {
			t.Errorf("partial %s: %+v", partial, r)
		}
	}
}
