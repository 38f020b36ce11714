package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kdht/bpf/limit"
	"kdht/router"
	"kdht/router/krpc"
	"kdht/store"
)

// network runs a private DHT of n nodes on loopback addresses and returns the address of the first. It is ready when
// every node knows every other, so that all lookups of a target end at the same ones.
func network(t *testing.T, n int) string {
	t.Helper()
	return limitedNetwork(t, n, limit.Config{})
}

// witness is where the test itself asks nodes from.
var witness = netip.AddrFrom4([4]byte{127, 0, 0, 2})

// limitedNetwork is network with nodes that hold others to limits, but neither one another nor the witness.
func limitedNetwork(t *testing.T, n int, limits limit.Config) string {
	t.Helper()
	limits.Exempt = append(limits.Exempt, netip.MustParsePrefix("127.0.1.0/24"), netip.PrefixFrom(witness, 32))
	ctx, cancel := context.WithCancel(context.Background())
	var bootstrap []string
	var running []chan error
	var nodes []*router.Node
	var addrs []netip.AddrPort
	t.Cleanup(func() {
		cancel()
		for _, done := range running {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	for i := range n {
		db, err := store.Open(filepath.Join(t.TempDir(), "db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		conns, err := router.Listen(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), 0))
		if err != nil {
			t.Fatal(err)
		}
		addr := conns[0].LocalAddr()
		addrs = append(addrs, addr)
		node, err := router.New(router.Config{Conns: conns, Store: db, Bootstrap: bootstrap, Private: true, Limits: limits,
			Recursion: router.Recursion{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/9")}}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			err := node.Run(ctx)
			if e := db.Close(); err == nil {
				err = e
			}
			done <- err
		}()
		running = append(running, done)
		select {
		case <-node.Ready():
		case err := <-done:
			t.Fatal(err)
		}
		nodes = append(nodes, node)
		if bootstrap == nil {
			bootstrap = []string{addr.String()}
		}
	}
	// A node that joined early may never hear of one that joined late, unless it is told.
	for _, node := range nodes {
		for _, addr := range addrs {
			if addr == node.Stats().Families[0].Listen[0] {
				continue
			}
			if _, err := node.Ping(ctx, addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(t, nodes, addrs)
	return bootstrap[0]
}

// settle waits until every node names the nodes that are closest to any other's ID: what it has learned shows in its answers with a delay.
func settle(t *testing.T, nodes []*router.Node, addrs []netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: witness.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ids := make([]krpc.ID, len(nodes))
	for i, node := range nodes {
		ids[i] = node.ID(router.IPv4)
	}
	settled, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for i := range nodes {
		for _, target := range ids {
			want := slices.DeleteFunc(slices.Clone(ids), func(id krpc.ID) bool { return id == ids[i] })
			byDistance(want, target)
			want = want[:min(8, len(want))]
			for !slices.Equal(named(t, conn, addrs[i], target), want) {
				select {
				case <-tick.C:
				case <-settled:
					t.Fatalf("node %d does not name those closest to %v, but %v; it knows %+v", i, target, named(t, conn, addrs[i], target), nodes[i].Stats().Families[0])
				}
			}
		}
	}
}

// named asks a node for the nodes closest to a target and returns their IDs in order of distance.
func named(t *testing.T, conn *net.UDPConn, node netip.AddrPort, target krpc.ID) (ids []krpc.ID) {
	t.Helper()
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodFindNode, TID: target[:4], ID: krpc.ID{1}, HasID: true, ReadOnly: true, Target: target, HasTarget: true}
	out, err := q.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteToUDPAddrPort(out, node); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // on an open socket it does not fail
	in := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return nil
		}
		var m krpc.Message
		if from != node || krpc.Decode(in[:n], &m) != nil || !bytes.Equal(m.TID, q.TID) {
			continue
		}
		for id := range krpc.Nodes(m.Nodes) {
			ids = append(ids, id)
		}
		byDistance(ids, target)
		return ids
	}
}

// byDistance sorts IDs by their XOR distance to a target.
func byDistance(ids []krpc.ID, target krpc.ID) {
	slices.SortFunc(ids, func(a, b krpc.ID) int {
		for i := range target {
			if x, y := a[i]^target[i], b[i]^target[i]; x != y {
				return int(x) - int(y)
			}
		}
		return 0
	})
}

// client returns the arguments for a command in that network.
func client(bootstrap string, args ...string) []string {
	if args[0] == "ping" {
		return args
	}
	return append(args, "--network", "private", "--bootstrap", bootstrap)
}

func TestItems(t *testing.T) {
	first := network(t, 12)
	do := func(args ...string) result { return kdht(t, client(first, args...)...) }

	t.Run("immutable", func(t *testing.T) {
		put := do("put", "Hello World!")
		if put.code != exitOK || put.stdout != id40+"\n" || put.stderr != "stored at 8 nodes\n" {
			t.Fatalf("%+v", put)
		}
		if got := do("get", id40); got.code != exitOK || got.stdout != "Hello World!" || got.stderr != "" {
			t.Errorf("%+v", got)
		}
		if got := do("get", "--bencoded", id40); got.stdout != "12:Hello World!" {
			t.Errorf("%+v", got)
		}
		var j struct{ Target, Text, V string }
		if got := do("get", "--json", id40); json.Unmarshal([]byte(got.stdout), &j) != nil || j.Target != id40 || j.Text != "Hello World!" || j.V != fmt.Sprintf("%x", "12:Hello World!") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("largest", func(t *testing.T) {
		value := bytes.Repeat([]byte{0, 0xff, 'x'}, 332)
		file := filepath.Join(t.TempDir(), "v")
		if err := os.WriteFile(file, value, 0o600); err != nil {
			t.Fatal(err)
		}
		put := do("put", "--file", file)
		if put.code != exitOK {
			t.Fatalf("%+v", put)
		}
		if got := do("get", strings.TrimSpace(put.stdout)); got.stdout != string(value) {
			t.Errorf("%+v", got)
		}
		// A terminal gets digits, not control characters.
		s := &system{args: client(first, "get", strings.TrimSpace(put.stdout)), stdoutIsTerminal: true}
		if got := kdhtWith(t, s); got.stdout != fmt.Sprintf("%x\n", value) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("standard input, bencoded", func(t *testing.T) {
		s := &system{args: client(first, "put", "--json", "--bencoded", "--file", "-"), stdin: strings.NewReader("d3:cow3:mooe")}
		put := kdhtWith(t, s)
		var j struct {
			Target string
			Stored []struct{ ID, Addr string }
		}
		if json.Unmarshal([]byte(put.stdout), &j) != nil || len(j.Stored) != 8 || put.code != exitOK {
			t.Fatalf("%+v", put)
		}
		if got := do("get", j.Target); got.stdout != "d3:cow3:mooe" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("missing", func(t *testing.T) {
		want := result{exitNotFound, "", "kdht: not found\n  no node that should have it has it; items expire two hours after their last put\n"}
		if diff := cmp.Diff(want, do("get", strings.Repeat("ab", 20)), cmp.AllowUnexported(result{})); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("progress", func(t *testing.T) {
		got := kdhtWith(t, &system{args: client(first, "get", id40), stderrIsTerminal: true, stdoutIsTerminal: true})
		if got.code != exitOK || got.stdout != "Hello World!\n" || !strings.HasPrefix(got.stderr, "\r\x1b[Kget: queried ") || !strings.HasSuffix(got.stderr, "\r\x1b[K") {
			t.Errorf("%+v", got)
		}
	})
}

func TestMutableItems(t *testing.T) {
	first := network(t, 12)
	do := func(args ...string) result { return kdht(t, client(first, args...)...) }
	key := filepath.Join(t.TempDir(), "key")
	public := strings.TrimSpace(kdht(t, "keygen", key).stdout)
	get := func(want string, seq int, args ...string) {
		t.Helper()
		got := do(append([]string{"get", "--key", public}, args...)...)
		if got.code != exitOK || got.stdout != want || !strings.HasPrefix(got.stderr, fmt.Sprintf("sequence number %d, the same at ", seq)) {
			t.Errorf("%+v", got)
		}
	}

	for i, value := range []string{"one", "two"} { // the sequence number counts up by itself
		put := do("put", "--key-file", key, "--salt", "s", value)
		want := fmt.Sprintf("stored at 8 nodes\npublic key %s, sequence number %d\n", public, i+1)
		if put.code != exitOK || put.stderr != want {
			t.Fatalf("%+v", put)
		}
		get(value, i+1, "--salt", "s")
	}
	if r := do("put", "--key-file", key, "--salt", "s", "--seq", "9", "--cas", "2", "nine"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	get("nine", 9, "--salt", "s")

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"wrong cas":            {[]string{"--seq", "10", "--cas", "2"}, "error 301"},
		"wrong cas, found out": {[]string{"--cas", "2"}, "has sequence number 9, not 2 as --cas says"},
		"old":                  {[]string{"--seq", "8"}, "error 302"},
		"same, other value":    {[]string{"--seq", "9"}, "error 302"},
	} {
		r := do(append([]string{"put", "--key-file", key, "--salt", "s", "other"}, c.args...)...)
		if r.code != exitRejected || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	get("nine", 9, "--salt", "s")

	if r := do("get", "--key", public); r.code != exitNotFound || !strings.Contains(r.stderr, "no node has an item of this key and salt") {
		t.Errorf("%+v", r)
	}
	if r := do("get", "--key", public, "--salt", "s", "--seq", "10"); r.code != exitNotFound || !strings.Contains(r.stderr, "older than asked for") {
		t.Errorf("%+v", r)
	}
	if r := do("put", "--json", "--key-file", key, "unsalted"); r.code != exitOK || !strings.Contains(r.stdout, `"seq":1`) {
		t.Errorf("%+v", r)
	}
	get("unsalted", 1)
}

func TestPeersPingFind(t *testing.T) {
	first := network(t, 12)
	do := func(args ...string) result { return kdht(t, client(first, args...)...) }

	r := do("peers", id40)
	if r.code != exitNotFound || r.stdout != "" || !strings.Contains(r.stderr, "no peers are known to the 8 closest nodes") {
		t.Errorf("%+v", r)
	}
	if r := do("announce", id40, "--peer-port", "4242", "--seed"); r.code != exitOK || r.stdout != id40+"\n" || r.stderr != "stored at 8 nodes\n" {
		t.Fatalf("%+v", r)
	}
	if r := do("peers", id40); r.code != exitOK || r.stdout != "127.0.0.1:4242\n" {
		t.Errorf("%+v", r)
	}
	if r := do("peers", id40, "--no-seeds"); r.code != exitNotFound {
		t.Errorf("%+v", r)
	}
	if r := do("peers", id40, "--scrape"); r.code != exitOK || r.stderr != "about 1 seed and 0 downloaders, as counted by 8 nodes\n" {
		t.Errorf("%+v", r)
	}
	if r := do("peers", id40, "--scrape", "--json"); !strings.Contains(r.stdout, `"count":{"nodes":8,"seeds":1,"downloaders":0}`) {
		t.Errorf("%+v", r)
	}
	if r := do("peers", "--json", id40); r.code != exitOK || !strings.Contains(r.stdout, `"peers":["127.0.0.1:4242"]`) {
		t.Errorf("%+v", r)
	}

	if r := do("find", id40); r.code != exitOK || strings.Count(r.stdout, "\n") != 8 || !strings.Contains(r.stdout, "  127.0.1.") {
		t.Errorf("%+v", r)
	}
	var found struct {
		Nodes []struct{ ID, Addr string }
	}
	if r := do("find", "--json", id40); json.Unmarshal([]byte(r.stdout), &found) != nil || len(found.Nodes) != 8 {
		t.Errorf("%+v", r)
	}

	if r := do("ping", first); r.code != exitOK || !strings.Contains(r.stdout, " from "+first+" in ") ||
		!strings.Contains(r.stdout, `v="KD\x00\x01"`) || !strings.Contains(r.stdout, "sees us at 127.0.0.1:") {
		t.Errorf("%+v", r)
	}
	if r := do("ping", "--json", first); r.code != exitOK || !strings.Contains(r.stdout, `"v":"4b440001"`) {
		t.Errorf("%+v", r)
	}
}

func TestNobodyAnswers(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0") // takes everything, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.LocalAddr().String()
	for _, args := range [][]string{
		client(addr, "get", id40, "--timeout", "500ms"),
		client(addr, "put", "x", "--timeout", "500ms"),
		client(addr, "find", id40, "--timeout", "500ms"),
		{"ping", addr, "--timeout", "500ms"},
		{"ping", "nobody.invalid:1", "--timeout", "5s"},
	} {
		r := kdht(t, args...)
		if r.code != exitUnreachable || r.stdout != "" || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%q: %+v", args, r)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{client(addr, "get", id40, "--timeout", "50ms"), "kdht: no node answered within 50ms, not " + addr + "\n  " + unreachableHint + "; or wait longer with --timeout\n"},
		{client(addr+",127.0.0.1:1", "get", id40, "--timeout", "50ms"), "kdht: no node answered within 50ms, none of the 2 nodes to begin with\n  " + unreachableHint + "; or wait longer with --timeout\n"},
		{[]string{"ping", addr, "--timeout", "50ms"}, "kdht: " + addr + " did not answer\n  check address and port; a node that is behind a firewall, or limits its answers, is silent\n"},
	} {
		if r := kdht(t, c.args...); r.code != exitUnreachable || r.stderr != c.want {
			t.Errorf("%q: %+v", c.args, r)
		}
	}
	if r := kdht(t, client("nobody.invalid:1", "find", id40)...); r.code != exitUnreachable || !strings.HasPrefix(r.stderr, "kdht: cannot resolve nobody.invalid: ") {
		t.Errorf("%+v", r)
	}
	if r := kdht(t, client("nobody.invalid:1,nowhere.invalid:1", "find", id40)...); r.code != exitUnreachable || !strings.HasPrefix(r.stderr, "kdht: cannot resolve any node to begin with: ") || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("%+v", r)
	}
	narrow := &system{args: client(addr, "find", id40, "--timeout", "1500ms"), stderrIsTerminal: true, columns: func() int { return 30 }}
	if r := kdhtWith(t, narrow); !strings.HasPrefix(r.stderr, "\r\x1b[Kjoin: 1s of 1.5s, no answer y\r\x1b[K") {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := kdhtWith(t, &system{ctx: ctx, args: client(addr, "get", id40)}); r.code != exitInterrupted || r.stderr != "kdht: interrupted\n" {
		t.Errorf("%+v", r)
	}
}
