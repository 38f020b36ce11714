package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/bpf/limit"
	"kdht/bpf/testenv"
)

// exampleInReadme writes the program in the README to a file and returns its path.
func exampleInReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	if code == nil {
		t.Fatal("no example")
	}
	if lines := len(regexp.MustCompile(`(?m)^ *\S`).FindAll(code[1], -1)); lines > 20 {
		t.Errorf("the example has %d lines", lines)
	}
	script := filepath.Join(t.TempDir(), "get.py")
	if err := os.WriteFile(script, code[1], 0o600); err != nil {
		t.Fatal(err)
	}
	return script
}

// The program in the README gets an item through a node, in one datagram each way; and in three and two through one that asks first
// who is there, as in a flood.
func TestExampleInReadme(t *testing.T) {
	testenv.NeedTool(t, "python3")
	script := exampleInReadme(t)
	open := network(t, 12)
	flooded := limitedNetwork(t, 2, limit.Config{Growth: 1, Secret: [16]byte{1}}) // nothing is left for whom nobody knows
	for _, c := range []struct {
		node, target, want string
		to, back           int64
	}{
		{open, id40, "12:Hello World!\n", 1, 1},
		{open, strings.Repeat("ab", 20), "not found\n", 1, 1},
		{flooded, id40, "12:Hello World!\n", 3, 2},
	} {
		if r := kdht(t, "put", "--via", c.node, "Hello World!"); r.code != exitOK {
			t.Fatalf("%+v", r)
		}
		r := startRelay(t, "127.0.0.1", c.node)
		host, port, err := net.SplitHostPort(r.addr)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "python3", script, host, port, c.target).CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("%v, %s", err, out)
		}
		if to, back := r.to.Load(), r.back.Load(); to != c.to || back != c.back {
			t.Errorf("%d datagrams there, %d back, want %d and %d", to, back, c.to, c.back)
		}
	}
}

// The program in the README ends at once, and prints no value, when a box answers with what is damaged or forged.
func TestExampleInReadmeDistrusts(t *testing.T) {
	testenv.NeedTool(t, "python3")
	script := exampleInReadme(t)
	for _, lie := range []string{
		"", "d", "de", "d1:rd1:v12:Hello World?e1:t2:aa1:y1:re", "d1:ei201e1:y1:ee", "d1:r-9:e", strings.Repeat("l", 2000), "d1:rli1ee1:y1:re",
		"d1:ad2:id20:" + strings.Repeat("x", 20) + "e1:q4:ping1:t2:aa1:y1:qe", // again and again
	} {
		node, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				_, from, err := node.ReadFrom(make([]byte, 2048))
				if err != nil {
					return
				}
				_, _ = node.WriteTo([]byte(lie), from)
			}
		}()
		host, port, err := net.SplitHostPort(node.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := exec.CommandContext(ctx, "python3", script, host, port, id40).Output()
		if (err != nil) == (string(out) == "not found\n") || ctx.Err() != nil {
			t.Errorf("%q: %v, %q", lie, err, out)
		}
		cancel()
		_ = node.Close()
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
