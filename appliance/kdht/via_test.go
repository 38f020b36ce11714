package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kdht/bpf/testenv"
	"kdht/router/krpc"
)

// relay stands between a client and a node, and counts the datagrams.
type relay struct {
	addr     string
	to, back atomic.Int64
}

// startRelay runs one whose own address, from which the node is asked, is that of host.
func startRelay(t *testing.T, host, node string) *relay {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(host)}}
	rear, err := dialer.Dial("udp", node)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: front.LocalAddr().String()}
	var client atomic.Pointer[net.Addr]
	done := make(chan struct{}, 2)
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				done <- struct{}{}
				return
			}
			client.Store(&from)
			r.to.Add(1)
			_, _ = rear.Write(b[:n])
		}
	}()
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := rear.Read(b)
			if errors.Is(err, net.ErrClosed) {
				done <- struct{}{}
				return
			}
			if to := client.Load(); err == nil && to != nil {
				r.back.Add(1)
				_, _ = front.WriteTo(b[:n], *to)
			}
		}
	}()
	t.Cleanup(func() {
		_ = front.Close()
		_ = rear.Close()
		<-done
		<-done
	})
	return r
}

// Every command takes one datagram each way.
func TestVia(t *testing.T) {
	first := network(t, 12)
	r := startRelay(t, "127.0.0.1", first)
	via := func(args ...string) result {
		t.Helper()
		to, back := r.to.Load(), r.back.Load()
		res := kdht(t, append(args, "--via", r.addr)...)
		if to, back = r.to.Load()-to, r.back.Load()-back; to != 1 || back != 1 {
			t.Errorf("%q: %d datagrams there, %d back", args, to, back)
		}
		return res
	}

	if p := via("put", "Hello World!"); p.code != exitOK || p.stdout != id40+"\n" || !strings.HasPrefix(p.stderr, "stored at ") {
		t.Fatalf("%+v", p)
	}
	if g := via("get", id40); g.code != exitOK || g.stdout != "Hello World!" || g.stderr != "" {
		t.Errorf("%+v", g)
	}
	if g := kdht(t, client(first, "get", id40)...); g.stdout != "Hello World!" {
		t.Errorf("not there for others: %+v", g)
	}
	if g := via("get", strings.Repeat("ab", 20)); g.code != exitNotFound || !strings.HasPrefix(g.stderr, "kdht: not found\n") {
		t.Errorf("%+v", g)
	}
	var j struct {
		Text, Via   string
		StoredCount int
		Seq         int64
		Complete    bool
		Nodes       []struct{ ID string }
		Peers       []string
		Count       struct{ Seeds int }
	}
	if g := via("get", "--json", id40); json.Unmarshal([]byte(g.stdout), &j) != nil || j.Text != "Hello World!" || j.Via != r.addr {
		t.Errorf("%+v", g)
	}

	key := filepath.Join(t.TempDir(), "key")
	public := strings.TrimSpace(kdht(t, "keygen", key).stdout)
	for _, value := range []string{"one", "two"} {
		if p := via("put", "--key-file", key, "--salt", "s", value); p.code != exitOK || !strings.Contains(p.stderr, "public key "+public) {
			t.Fatalf("%+v", p)
		}
		if g := via("get", "--key", public, "--salt", "s"); g.code != exitOK || g.stdout != value || !strings.HasPrefix(g.stderr, "sequence number ") {
			t.Errorf("%+v", g)
		}
	}
	if p := via("put", "--key-file", key, "--salt", "s", "--seq", "5", "old"); p.code != exitRejected || !strings.Contains(p.stderr, "error 302") {
		t.Errorf("%+v", p)
	}
	if p := via("put", "--key-file", key, "--salt", "s", "--cas", "5", "old"); p.code != exitRejected || !strings.Contains(p.stderr, "error 301") {
		t.Errorf("%+v", p)
	}
	if p := via("put", "--json", "--key-file", key, "--seq", "7", "unsalted"); json.Unmarshal([]byte(p.stdout), &j) != nil || j.Seq != 7 || j.StoredCount < 8 {
		t.Errorf("%+v", p)
	}
	if g := via("get", "--key", public, "--seq", "8"); g.code != exitNotFound || !strings.Contains(g.stderr, "older than asked for") {
		t.Errorf("%+v", g)
	}
	if g := via("get", "--key", public, "--salt", "other"); g.code != exitNotFound || !strings.Contains(g.stderr, "no node has an item of this key and salt") {
		t.Errorf("%+v", g)
	}

	if p := via("peers", id40); p.code != exitNotFound || !strings.Contains(p.stderr, "no peers are known to any node that should know") {
		t.Errorf("%+v", p)
	}
	if a := via("announce", id40, "--peer-port", "4242", "--seed"); a.code != exitOK || a.stdout != id40+"\n" || !strings.HasPrefix(a.stderr, "stored at ") {
		t.Fatalf("%+v", a)
	}
	if p := via("peers", id40); p.code != exitOK || !strings.Contains(p.stdout, ":4242\n") {
		t.Errorf("%+v", p)
	}
	if p := via("peers", id40, "--scrape", "--json"); json.Unmarshal([]byte(p.stdout), &j) != nil || len(j.Peers) == 0 || j.Count.Seeds != len(j.Peers) {
		t.Errorf("%+v", p)
	}

	if f := via("find", id40); f.code != exitOK || strings.Count(f.stdout, "\n") != 8 || !strings.Contains(f.stdout, "  127.0.1.") {
		t.Errorf("%+v", f)
	}
	if f := via("find", "--json", id40); json.Unmarshal([]byte(f.stdout), &j) != nil || !j.Complete || len(j.Nodes) != 8 {
		t.Errorf("%+v", f)
	}

	stranger := startRelay(t, "127.200.0.1", first)
	for _, args := range [][]string{{"get", strings.Repeat("ab", 20)}, {"put", "x"}, {"peers", strings.Repeat("ab", 20)}, {"announce", id40, "--peer-port", "1"}, {"find", id40}} {
		res := kdht(t, append(args, "--via", stranger.addr)...)
		if res.code != exitRejected || !strings.Contains(res.stderr, "looked nothing up for this machine") || res.stdout != "" {
			t.Errorf("%q: %+v", args, res)
		}
	}
}

// answering runs a server that answers with what answer makes of a query, and returns its address.
func answering(t *testing.T, answer func(n int, q *krpc.Message) *krpc.Message) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var q krpc.Message
			if err := krpc.Decode(b[:n], &q); err != nil {
				t.Errorf("%q: %v", b[:n], err)
				continue
			}
			if !q.Recursive || !q.ReadOnly || q.Token != nil {
				t.Errorf("query %+v", q)
			}
			if r := answer(i, &q); r != nil {
				out, err := r.Append(nil)
				if err != nil {
					t.Error(err)
				}
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func response(q *krpc.Message) *krpc.Message {
	return &krpc.Message{Type: krpc.TypeResponse, TID: q.TID, HasID: true}
}

// A node that is wrong, or unwilling, or not there, is told from one that has not found anything.
func TestViaTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(n int, q *krpc.Message) *krpc.Message
		code   int
		want   string
	}{
		"forged":   {func(_ int, q *krpc.Message) *krpc.Message { r := response(q); r.V = []byte("1:x"); return r }, exitFailure, "answered with a value of another hash"},
		"none":     {func(_ int, q *krpc.Message) *krpc.Message { return response(q) }, exitRejected, "looked nothing up for this machine"},
		"too late": {func(_ int, q *krpc.Message) *krpc.Message { r := response(q); r.HasRecursive = true; return r }, exitUnreachable, "could not ask all others that may"},
		"error": {func(_ int, q *krpc.Message) *krpc.Message {
			return &krpc.Message{Type: krpc.TypeError, TID: q.TID, Err: krpc.Error{Code: 202, Text: "busy"}}
		}, exitRejected, `answered with error 202 ("busy")`},
		"another's": {func(_ int, q *krpc.Message) *krpc.Message {
			r := response(q)
			r.TID = append(append([]byte{}, q.TID...), 'x')
			return r
		}, exitUnreachable, "did not answer within 300ms"},
	} {
		addr := answering(t, c.answer)
		r := kdht(t, "get", id40, "--via", addr.String(), "--timeout", "300ms")
		if name != "another's" {
			r = kdht(t, "get", id40, "--via", addr.String())
		}
		if r.code != c.code || r.stdout != "" || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	addr := testenv.FreeAddress(t)
	if r := kdht(t, "get", id40, "--via", addr); r.code != exitUnreachable || !strings.HasPrefix(r.stderr, "kdht: no node at "+addr+": connection refused\n") {
		t.Errorf("%+v", r)
	}
	for via, want := range map[string]string{
		"10.0.0.1:x": `--via: "10.0.0.1:x" has a port that is not a number`,
		"[::":        "--via: ",
		"::1":        "", "[::1]": "", "box": "", "10.0.0.1": "",
	} {
		got, err := viaNode(via)
		switch {
		case want == "" && (err != nil || !strings.HasSuffix(got, ":6881")):
			t.Errorf("%s: %s, %v", via, got, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %s, %v", via, got, err)
		}
	}
	for _, args := range [][]string{{"--via", "10.0.0.1:x"}, {"--via", ""}, {"--via="}} {
		if r := kdht(t, append(args, "get", id40)...); r.code != exitUsage {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// Of a node with several addresses, as a name of both families has, the first is asked where somebody is, with one datagram; what must
// not be done twice only where nobody was before.
func TestViaTriesAllAddresses(t *testing.T) {
	good := answering(t, func(_ int, q *krpc.Message) *krpc.Message { return response(q) })
	// With this socket nobody has the port at all addresses, and at that one nobody is.
	held, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	none := netip.AddrPortFrom(netip.MustParseAddr("127.77.77.77"), held.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("tid!"), HasID: true, Recursive: true, ReadOnly: true}
	b, err := q.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	const short, long = 300 * time.Millisecond, 4 * time.Second // where nobody answers, and where somebody does
	silent := netip.AddrPort{}                                  // stands for one of each case
	for name, c := range map[string]struct {
		addrs   []netip.AddrPort
		once    bool
		timeout time.Duration
		want    string
	}{
		"first":         {[]netip.AddrPort{good, silent}, false, long, ""},
		"refused":       {[]netip.AddrPort{none, good}, false, long, ""},
		"silent":        {[]netip.AddrPort{silent, good}, false, long, ""},
		"in vain":       {[]netip.AddrPort{none, silent}, false, short, "box:1 (%s, %s) did not answer within 300ms"},
		"once, refused": {[]netip.AddrPort{none, good}, true, long, ""},
		"once, silent":  {[]netip.AddrPort{silent, good}, true, short, "box:1 (%s, %s) did not answer within 300ms"},
		"none":          {[]netip.AddrPort{none, none}, false, long, "no node at box:1 (%s, %s): connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			if i := slices.Index(c.addrs, silent); i >= 0 {
				c.addrs[i] = answering(t, func(int, *krpc.Message) *krpc.Message { asked.Add(1); return nil })
			}
			f := clientFlags{Timeout: c.timeout}
			ctx, cancel := context.WithTimeout(t.Context(), f.Timeout)
			defer cancel()
			answer, err := f.askAt(ctx, "box:1", c.addrs, b, q.TID, c.once)
			switch {
			case c.want == "" && (err != nil || answer.from != good):
				t.Errorf("%+v, %v", answer, err)
			case c.want != "" && (err == nil || err.Error() != fmt.Sprintf(c.want, c.addrs[0], c.addrs[1])):
				t.Errorf("%v, want %s", err, c.want)
			}
			if n := asked.Load(); n > 1 {
				t.Errorf("the one who is silent got %d datagrams", n)
			}
		})
	}
}

// On a terminal one sees that a node is being waited for, once that takes long, and nothing of it is left afterwards.
func TestWaitingIsShown(t *testing.T) {
	for waited, want := range map[time.Duration]string{
		500 * time.Millisecond:  "",
		2500 * time.Millisecond: "\r\x1b[Kget: 1s of 30s, no answer from box:1 yet\r\x1b[Kget: 2s of 30s, no answer from box:1 yet\r\x1b[K",
	} {
		synctest.Test(t, func(t *testing.T) {
			var shown strings.Builder
			s := &system{stderr: &shown, stderrIsTerminal: true}
			end := s.newProgress("get", "").wait("box:1", 30*time.Second)
			time.Sleep(waited)
			end()
			if shown.String() != want {
				t.Errorf("after %v: %q, want %q", waited, shown.String(), want)
			}
		})
	}
}

// What got lost is sent again, as it was.
func TestViaSendsAgain(t *testing.T) {
	seen := make(chan string, 1000)
	addr := answering(t, func(n int, q *krpc.Message) *krpc.Message {
		seen <- string(q.TID)
		if n < 2 {
			return nil
		}
		return response(q)
	})
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("tid!"), HasID: true, Recursive: true, ReadOnly: true}
	b, err := q.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := exchange(ctx, addr, b, q.TID, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if tid := <-seen; tid != "tid!" {
			t.Errorf("sent again as %q", tid)
		}
	}
}

// A node that is flooded from forged addresses asks for a proof of this one, and has it at once; the query is sent again, once.
func TestViaProvesItsAddress(t *testing.T) {
	node, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var seen []krpc.Message
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, from, err := node.ReadFrom(b)
			var m krpc.Message
			if err != nil || krpc.Decode(b[:n], &m) != nil {
				return
			}
			m.TID = []byte(string(m.TID)) // of b
			seen = append(seen, m)
			switch answer := response(&m); {
			case len(seen) == 1:
				for range 3 {
					ping, _ := (&krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("cookie\x00!"), HasID: true}).Append(nil)
					_, _ = node.WriteTo(ping, from)
				}
			case m.Type == krpc.TypeQuery:
				out, _ := answer.Append(nil)
				_, _ = node.WriteTo(out, from)
				return
			}
		}
	}()
	q := krpc.Message{Type: krpc.TypeQuery, Method: krpc.MethodPing, TID: []byte("tid!"), HasID: true, Recursive: true, ReadOnly: true}
	b, err := q.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = exchange(ctx, netip.MustParseAddrPort(node.LocalAddr().String()), b, q.TID, time.Hour)
	_ = node.Close()
	<-done
	var got []string
	for _, m := range seen {
		got = append(got, fmt.Sprintf("%c %q", m.Type, m.TID))
	}
	if want := `[q "tid!" r "cookie\x00!" q "tid!"]`; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
}
