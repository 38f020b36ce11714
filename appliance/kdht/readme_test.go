package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

var updateReadme = flag.Bool("update-readme", false, "write what the commands in the README print into it")

// The commands in the README's section on HTTP print what stands there, but for keys, times and what comes of them.
func TestCommandsInReadme(t *testing.T) {
	for _, tool := range []string{"curl", "jq", "bash"} {
		testenv.NeedTool(t, tool)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := bytes.Cut(text, []byte("\n## HTTP for programs\n"))
	if !ok {
		t.Fatal("no such section")
	}
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	dir := t.TempDir()
	key := filepath.Join(dir, "fleet.key")
	kdht(t, "keygen", key)
	a := serve(t, t.TempDir(), "--set", "names.secret="+key, "--set", "discovery=off", "--set", "gateway.sign=loopback")
	b := serve(t, t.TempDir(), "--set", "names.secret="+key, "--set", "discovery=off", "--bootstrap", a.udp)
	program := fmt.Sprintf("#!/bin/sh\nKDHT_TEST_PROCESS=1 exec %q \"$@\"\n", os.Args[0])
	if err := os.WriteFile(filepath.Join(dir, "kdht"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	// One shell for all commands, as people have it: each is followed by a line that tells where its output ends.
	const end = "\x1e\n"
	blocks := regexp.MustCompile("(?s)```\n(\\$ .*?)```").FindAllSubmatchIndex(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	var commands []string
	for _, at := range blocks {
		for _, line := range strings.Split(string(section[at[2]:at[3]]), "\n") {
			if c, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, c)
			}
		}
	}
	script := ""
	for _, c := range commands {
		script += strings.NewReplacer("localhost:8080", a.http, "10.0.0.8:8080", b.http).Replace(c) + " 2>/dev/null\nprintf '" + end[:1] + "\\n'\n"
	}
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "no_proxy=*", "KDHT_HTTP=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	outputs := strings.Split(strings.ReplaceAll(string(out), "\r", ""), end)
	run := 0
	got := regexp.MustCompile("(?s)```\n\\$ .*?```").ReplaceAllFunc(section, func(block []byte) []byte {
		shown := "```\n"
		for range strings.Count(string(block), "\n$ ") {
			shown += "$ " + commands[run] + "\n" + outputs[run]
			run++
		}
		return []byte(shown + "```")
	})
	if *updateReadme {
		if err := os.WriteFile("../../README.md", bytes.Replace(text, section, got, 1), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	differs := regexp.MustCompile(`\b[0-9]{16}\b|\b[0-9a-f]{64}\b|"target":"[0-9a-f]{40}"|Date: .*`)
	if diff := cmp.Diff(differs.ReplaceAllString(string(section), "*"), differs.ReplaceAllString(string(got), "*")); diff != "" {
		t.Errorf("go test -run CommandsInReadme -update-readme writes it anew:\n%s", diff)
	}
}
