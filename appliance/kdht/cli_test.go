package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kdht/appliance"
	"kdht/config"
)

var rewrite = flag.Bool("update", false, "write the golden files anew")

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

// kdht runs a command line in this process.
func kdht(t *testing.T, args ...string) result {
	t.Helper()
	return kdhtWith(t, &system{args: args})
}

// kdhtWith runs a command line with surroundings of which only what matters need be given.
func kdhtWith(t *testing.T, s *system) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if s.ctx == nil {
		s.ctx = t.Context()
	}
	if s.stdin == nil {
		s.stdin = strings.NewReader("")
	}
	if s.serve == nil {
		s.serve = func(context.Context, config.Config, *slog.Logger, ...appliance.Extension) error {
			return errors.New("not to be served")
		}
	}
	s.stdout, s.stderr = &stdout, &stderr
	code := run(s)
	return result{code, stdout.String(), stderr.String()}
}

// golden compares with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it anew):\n%s", path, diff)
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	for _, command := range []string{"", "serve", "status", "config", "config show", "config check", "bundle", "update", "update status", "update check", "update apply", "update rollback", "name", "name get", "name put", "name rm", "name ls", "get", "put", "announce", "peers", "ping", "find", "keygen", "decode", "version"} {
		t.Run(command, func(t *testing.T) {
			r := kdht(t, append(strings.Fields(command), "--help")...)
			if r.code != exitOK || r.stderr != "" {
				t.Errorf("exit code %d, %s", r.code, r.stderr)
			}
			golden(t, filepath.Join("help", strings.ReplaceAll("kdht "+command, " ", "-")+".txt"), r.stdout)
			if command != "" && command != "config" && command != "update" && command != "name" && command != "version" && !strings.Contains(r.stdout, "Examples:") {
				t.Error("no examples")
			}
		})
	}
}

func TestUsualWays(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	if r := kdht(t); r.code != exitOK || r.stdout != kdht(t, "--help").stdout {
		t.Errorf("%+v", r)
	}
	for _, same := range [][2][]string{
		{{"help"}, {"--help"}},
		{{"help", "config", "show"}, {"config", "show", "--help"}},
		{{"--version"}, {"version"}},
	} {
		if got, want := kdht(t, same[0]...), kdht(t, same[1]...); got != want || got.code != exitOK {
			t.Errorf("%q: %+v, want %+v", same[0], got, want)
		}
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	help := kdht(t, "--help").stdout
	seen := make(map[int]bool)
	for _, e := range exitCodes {
		if e.code == 125 || e.code < 0 || e.code > 255 || seen[e.code] {
			t.Errorf("exit code %d", e.code)
		}
		seen[e.code] = true
		if !strings.Contains(help, e.meaning) {
			t.Errorf("not in the help: %s", e.meaning)
		}
	}
}

const (
	id40  = "e5f96f6f38320f0f33959cb4d3d656452117aadb"
	key64 = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"
)

// Faults of the command line: exit code 2 and the whole text.
func TestUsageErrors(t *testing.T) {
	key := filepath.Join(t.TempDir(), "k")
	if r := kdht(t, "keygen", key); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	long := strings.Repeat("x", 997)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"sevre"}, "kdht: unexpected argument sevre, did you mean \"serve\"?\n  \"kdht --help\" shows how to write it, with examples\n"},
		{[]string{"get", "--frob"}, "kdht: unknown flag --frob\n  \"kdht get --help\" shows how to write it, with examples\n"},
		{[]string{"find"}, "kdht: expected \"<target>\"\n  \"kdht find --help\" shows how to write it, with examples\n"},
		{[]string{"announce", id40}, "kdht: missing flags: --peer-port=PORT\n  \"kdht announce --help\" shows how to write it, with examples\n"},
		{[]string{"announce", id40, "--peer-port", "0"}, "kdht: 0 is no port for peers to connect to\n  write 1 to 65535\n"},
		{[]string{"announce", id40, "--peer-port", "65536"}, "kdht: 65536 is no port for peers to connect to\n  write 1 to 65535\n"},
		{[]string{"find", "abc"}, "kdht: the target \"abc\" has 3 characters, not 40\n  write 40 hexadecimal digits, as in e5f96f6f38320f0f33959cb4d3d656452117aadb\n"},
		{[]string{"peers", "z" + id40[1:]}, "kdht: the infohash \"z5f96f6f38320f0f33959cb4d3d656452117aadb\" has characters that are no hexadecimal digits\n  write 40 hexadecimal digits, as in e5f96f6f38320f0f33959cb4d3d656452117aadb\n"},
		{[]string{"get"}, "kdht: give either a target or a key\n  write \"kdht get TARGET\" for an immutable item, \"kdht get --key PUBLICKEY [--salt SALT]\" for a mutable one\n"},
		{[]string{"get", key64}, "kdht: the target \"" + key64 + "\" has 64 characters, not 40\n  write 40 hexadecimal digits, as in e5f96f6f38320f0f33959cb4d3d656452117aadb; if these 64 are a public key, write --key before them\n"},
		{[]string{"get", "--key", id40}, "kdht: the public key \"" + id40 + "\" has 40 characters, and should have 64 hexadecimal digits\n  write the 64 hexadecimal digits that \"kdht keygen\" printed\n"},
		{[]string{"get", id40, "--salt", "x"}, "kdht: --salt and --seq are for mutable items\n  leave them out, or give the public key with --key instead of the target\n"},
		{[]string{"get", "--key", key64, "--salt", long[:65]}, "kdht: the salt has 65 bytes, and at most 64 are allowed (BEP 44)\n  shorten it\n"},
		{[]string{"get", "--network", "private", id40}, "kdht: a private network has no nodes that everybody knows\n  name any node of it with --bootstrap HOST:PORT\n"},
		{[]string{"get", "--bootstrap", "127.0.0.1:6881", id40}, "kdht: 127.0.0.1:6881 is no address of the public network\n  to ask a node at a private address, also one of the public network, add --network private\n"},
		{[]string{"get", "--network", "private", "--bootstrap", "[fe80::1]:6881", id40}, "kdht: no node can be at [fe80::1]:6881\n  name a node by an address that others reach it at\n"},
		{[]string{"get", "--network", "lan", id40}, "kdht: --network must be one of \"public\",\"private\" but got \"lan\"\n  \"kdht get --help\" shows how to write it, with examples\n"},
		{[]string{"get", "--bootstrap", "10.0.0.1", id40}, "kdht: --bootstrap: \"10.0.0.1\" has no port\n  write \"10.0.0.1:6881\"\n"},
		{[]string{"get", "--bootstrap", "none", id40}, "kdht: --bootstrap: \"none\" is for the first node of a network\n  to ask one, name a node of it as HOST:PORT\n"},
		{[]string{"get", "--timeout", "5", id40}, "kdht: --timeout: expected duration but got \"5\": time: missing unit in duration \"5\"\n  write a number with its unit, as in 500ms, 5s or 2m\n"},
		{[]string{"get", "--timeout", "0s", id40}, "kdht: --timeout must be more than 0s\n  write for example --timeout 5s\n"},
		{[]string{"put"}, "kdht: give either a value or --file\n  write for example: kdht put \"Hello World!\", or --file FILE, with - for standard input\n"},
		{[]string{"put", "x", "--file", "y"}, "kdht: give either a value or --file\n  write for example: kdht put \"Hello World!\", or --file FILE, with - for standard input\n"},
		{[]string{"put", long}, "kdht: the value has 997 bytes, and at most 996 fit into an item (BEP 44: 1000 bencoded)\n  split it over several items, or store a hash of it\n"},
		{[]string{"put", "--bencoded", "hello"}, "kdht: the value is not canonical bencoding\n  write for example 5:hello, i42e, l1:a1:be or d3:key5:valuee, with sorted keys; without --bencoded any bytes will do\n"},
		{[]string{"put", "--bencoded", "l" + strings.Repeat("i1e", 400) + "e"}, "kdht: the bencoded value has 1202 bytes, and at most 1000 fit into an item (BEP 44)\n  split it over several items\n"},
		{[]string{"put", "x", "--seq", "1"}, "kdht: --salt, --seq and --cas are for mutable items\n  give the key with --key-file (see \"kdht keygen\"), or leave them out\n"},
		{[]string{"put", "x", "--key-file", key, "--seq=new"}, "kdht: --seq: expected a valid 64 bit int but got \"new\"\n  write a whole number, as in 7\n"},
		{[]string{"put", "x", "--key-file", key, "--seq=-1"}, "kdht: sequence numbers are not negative\n  write 0 or more\n"},
		{[]string{"ping", "router"}, "kdht: \"router\" has no port\n  write \"router:6881\"\n"},
		{[]string{"ping", "router:1", "--timeout", "0s"}, "kdht: --timeout must be more than 0s\n  write for example --timeout 5s\n"},
		{[]string{"status", "--http", "x"}, "kdht: --http x is no address with a port\n  write ADDR:PORT, as in 127.0.0.1:8080\n"},
		{[]string{"decode", "xyz"}, "kdht: \"xyz\" is neither a file (no such file or directory) nor hexadecimal\n  write the datagram as pairs of hexadecimal digits, or name a readable file\n"},
		{[]string{"serve", "--xdp", "naitve"}, "--xdp: xdp.mode: \"naitve\" is not one of \"auto\", \"native\", \"generic\", \"off\"; did you mean \"native\"?\n"},
		{[]string{"serve", "--listen", "1.2.3.4", "--http", "x"}, "--listen: \"1.2.3.4\" has no port; write \"1.2.3.4:6881\"\n--http: \"x\" is not ADDR:PORT; write for example \":8080\", \"127.0.0.1:8080\" or \"off\"\n"},
		{[]string{"serve", "--set", "lookup.alfa=2"}, "--set lookup.alfa: unknown key \"lookup.alfa\"; did you mean \"lookup.alpha\"?\n"},
		{[]string{"serve", "--set", "lookup.alpha=some"}, "--set lookup.alpha: the string \"some\" is not a number; write a number, 1 to 16 queries\n"},
		{[]string{"name", "put", "printers/attic", "10.0.0.9", "--new", "--cas", "7"}, "kdht: --new and --cas can't be used together\n  \"kdht name put --help\" shows how to write it, with examples\n"},
		{[]string{"serve", "--set", "lookup.alpha"}, "kdht: --set lookup.alpha: there is no value\n  write KEY=VALUE, as in --set store.maxBytes=1GiB; \"kdht config show\" lists the keys\n"},
		{[]string{"serve", "--config", "/nowhere/x"}, "/nowhere/x: no such file or directory; write one with: kdht config show > /nowhere/x\n"},
	} {
		r := kdht(t, c.args...)
		if r.code != exitUsage || r.stdout != "" {
			t.Errorf("%.60q: exit code %d, %s", c.args, r.code, r.stdout)
		}
		if diff := cmp.Diff(c.want, r.stderr); diff != "" {
			t.Errorf("%.60q:\n%s", c.args, diff)
		}
	}
}

// A signal ends also a command that waits for a pipe to which nobody writes.
func TestInterruptedReading(t *testing.T) {
	for _, args := range [][]string{{"decode", "-"}, {"put", "--file", "-", "--network", "private", "--bootstrap", "127.0.0.1:1"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			stdin, nobody := io.Pipe()
			t.Cleanup(func() { _ = nobody.Close() })
			if r := kdhtWith(t, &system{ctx: ctx, args: args, stdin: stdin}); r.code != exitInterrupted || r.stdout != "" || r.stderr != "kdht: interrupted\n" {
				t.Errorf("%+v", r)
			}
		})
	}
}
