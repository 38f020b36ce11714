package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kdht/bpf/testenv"
)

// The program in the README gets an item through a node, in one datagram each way.
func TestExampleInReadme(t *testing.T) {
	testenv.NeedTool(t, "python3")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	if code == nil {
		t.Fatal("no example")
	}
	if lines := len(regexp.MustCompile(`(?m)^ *\S`).FindAll(code[1], -1)); lines > 21 {
		t.Errorf("the example has %d lines", lines)
	}
	script := filepath.Join(t.TempDir(), "get.py")
	if err := os.WriteFile(script, code[1], 0o600); err != nil {
		t.Fatal(err)
	}
	first := network(t, 12)
	if r := kdht(t, client(first, "put", "Hello World!")...); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	r := startRelay(t, "127.0.0.1", first)
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{id40: "12:Hello World!\n", strings.Repeat("ab", 20): "not found\n"} {
		to, back := r.to.Load(), r.back.Load()
		out, err := exec.CommandContext(t.Context(), "python3", script, host, port, target).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%v, %s", err, out)
		}
		if to, back = r.to.Load()-to, r.back.Load()-back; to != 1 || back != 1 {
			t.Errorf("%d datagrams there, %d back", to, back)
		}
	}
}
