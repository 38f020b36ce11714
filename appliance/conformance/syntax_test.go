package conformance_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"kdht/router/krpc"
)

const (
	target = "mnopqrstuvwxyz123456" // of lookups; an infohash that has a peer
	absent = "nobody has stored it" // an infohash or target that nothing is stored under
)

// queries are well-formed queries of all methods, with a token that is right nowhere.
func queries() map[string]query {
	it := signed([]byte("salt"), 1, []byte(str("value")))
	return map[string]query{
		"ping":                 newQuery("ping"),
		"find_node":            newQuery("find_node", "target", str(target), "want", "l"+str("n4")+str("n6")+"e"),
		"get_peers":            newQuery("get_peers", "info_hash", str(absent)),
		"get_peers with all":   newQuery("get_peers", "info_hash", str(target), "noseed", num(1), "scrape", num(1)),
		"announce_peer":        newQuery("announce_peer", "info_hash", str(absent), "port", num(6881), "token", str("12345678")),
		"get":                  newQuery("get", "target", str(absent)),
		"get with all":         newQuery("get", "target", str(absent), "seq", num(5), "want", "l"+str("n4")+"e"),
		"put, immutable":       newQuery("put", "token", str("12345678"), "v", str("Hello World!")),
		"put, mutable":         putQuery(it, "12345678").with("cas", num(3)),
		"sample_infohashes":    newQuery("sample_infohashes", "target", str(target)),
		"a method of tomorrow": newQuery("vote", "target", str(target)),
	}
}

// putQuery is the put of an item.
func putQuery(it krpc.Message, token string) query {
	q := newQuery("put", "token", str(token), "v", string(it.V))
	if it.K != nil {
		q = q.with("k", str(it.K), "seq", num(it.Seq), "sig", str(it.Sig))
	}
	if len(it.Salt) > 0 {
		q = q.with("salt", str(it.Salt))
	}
	return q
}

// testSyntax sends datagrams that are no whole bencoded dictionary, or too much of one.
func testSyntax(t *testing.T, p *pair) {
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, clientFor(to), to)
		for name, q := range queries() {
			b := q.bytes()
			for n := range b {
				p.same(t, cs, fmt.Sprintf("%s, %d of %d bytes", name, n, len(b)), b[:n], wantSilence)
			}
			p.same(t, cs, name, b, "")
		}
		for _, c := range spoilt() {
			p.same(t, cs, c.name, []byte(c.datagram), c.want)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range 200 {
			b := make([]byte, n*7)
			for i := range b {
				b[i] = "del:0123456789\x00\xffaqty"[rng.IntN(20)]
			}
			p.same(t, cs, "random", b, wantSilence)
			p.same(t, cs, "random after d", append([]byte("d1:a"), b...), wantSilence)
		}
	}
}

// example is a datagram and what has to come back.
type example struct{ name, datagram, want string }

func spoilt() (all []example) {
	add := func(want, name, format string, args ...any) {
		all = append(all, example{name, fmt.Sprintf(format, args...), want})
	}
	const id = "abcdefghij0123456789"
	const rest = "1:q4:ping1:t2:aa1:y1:qe"
	const ping = "d1:ad2:id20:" + id + "e" + rest

	// Lengths. 2^32+20 and 2^64+20 are 20 to who counts in too few bits.
	for _, l := range []string{"-1:", "-20:", "4294967316:", "9223372036854775807:", "9223372036854775808:", "18446744073709551615:",
		"18446744073709551636:", "99999999999999999999999999999:", "+20:", " 20:", "20 :", "0x14:", ":", "20", "20;", "2e1:", "20.0:"} {
		add(wantSilence, "length "+l, "d1:ad2:id%s%se%s", l, id, rest)
		add(wantSilence, "length of a key "+l, "d1:ad%sid20:%se%s", l, id, rest)
		add(wantSilence, "length of t "+l, "d1:ad2:id20:%se1:q4:ping1:t%saa1:y1:qe", id, l)
	}
	add(wantAnswer, "length 020", "d1:ad2:id020:%se%s", id, rest)
	add("", "length with many zeros", "d1:ad2:id%s20:%se%s", strings.Repeat("0", 30), id, rest)

	// Integers, where the value does not matter.
	for _, i := range []string{"ie", "i-e", "i--1e", "i+1e", "i 1e", "i1 e", "i1x2e", "i1.5e", "i0x1e", "i1", "i", "1e", "ii1ee"} {
		add(wantSilence, "integer "+i, "d1:ad2:id20:%s1:x%se%s", id, i, rest)
		add(wantSilence, "integer at the top "+i, "d1:ad2:id20:%se2:ro%s%s", id, i, rest)
	}
	for _, i := range []string{"i-0e", "i01e", "i-01e", "i" + strings.Repeat("9", 100) + "e", "i-" + strings.Repeat("9", 100) + "e"} {
		add(wantAnswer, "integer "+i, "d1:ad2:id20:%s1:x%se%s", id, i, rest)
	}

	// Structure.
	for _, s := range []string{"\x00", "d", "de", "l", "le", "e", "i1e", "4:spam", "1:d", "dd", "dede", "d1:ae", "d1:a", "d1:ad", "dli1eee",
		"di1e1:xe", "d1:te", "d1:t2:aae", "l" + ping + "e", " " + ping, "\n" + ping, "d" + ping + "e", "d1:ad2:id20:" + id + "1:xe" + rest,
		strings.Repeat("\x00", 100), strings.Repeat("d", 1400), strings.Repeat("l", 1400), "d1:a" + strings.Repeat("l", 1400),
		"d1:ad1:x" + strings.Repeat("d1:x", 300), strings.Repeat("e", 1400), strings.Repeat("0", 1400), strings.Repeat("9", 1400) + ":"} {
		add(wantSilence, "structure "+s[:min(len(s), 20)], "%s", s)
	}
	add(wantSilence, "id twice", "d1:ad2:id20:%s2:id20:%se%s", id, id, rest)
	add(wantSilence, "a twice", "d1:ad2:id20:%se1:ad2:id20:%se%s", id, id, rest)
	add(wantSilence, "y twice", "d1:ad2:id20:%se1:q4:ping1:t2:aa1:y1:q1:y1:qe", id)
	many := func(format string) (s string) {
		for i := range 90 {
			s += fmt.Sprintf(format, "a", i)
		}
		return s
	}
	add(wantAnswer, "90 sorted keys", "d1:ad%s2:id20:%se%s", many("4:%s%03d0:"), id, rest)
	add(wantSilence, "90 keys, not sorted", "d1:ad2:id20:%s%se%s", id, many("4:%s%03d0:"), rest)

	// Depth: the message is the first level, of ten.
	for _, open := range []string{"l", "d1:x"} {
		inner, ends := "i1e", func(n int) string { return strings.Repeat("e", n) }
		for n, want := range map[int]string{9: wantAnswer, 10: wantSilence, 11: wantSilence, 60: wantSilence, 300: wantSilence} {
			add(want, fmt.Sprintf("%d %s at the top", n, open), "d1:!%s%s%s%s", strings.Repeat(open, n), inner, ends(n), ping[1:])
		}
		for n, want := range map[int]string{8: wantAnswer, 9: wantSilence, 300: wantSilence} {
			add(want, fmt.Sprintf("%d %s in a", n, open), "d1:ad1:!%s%s%s2:id20:%se%s", strings.Repeat(open, n), inner, ends(n), id, rest)
			add(map[string]string{wantAnswer: wantError(krpc.ErrCodeProtocol), wantSilence: wantSilence}[want], // the token is wrong
				fmt.Sprintf("%d %s in v", n, open), "d1:ad2:id20:%s5:token8:123456781:v%s%s%se1:q3:put1:t2:aa1:y1:qe",
				id, strings.Repeat(open, n), inner, ends(n))
		}
	}

	// Size: what does not fit into 2,048 bytes is cut off there.
	padded := func(n int) string {
		const frame = "d1:ad2:id20:" + id + "7:paddinge" + rest
		size := n - len(frame)
		return "d1:ad2:id20:" + id + "7:padding" + str(strings.Repeat("p", size-len(fmt.Sprint(size))-1)) + "e" + rest
	}
	for n, want := range map[int]string{512: wantAnswer, 1400: wantAnswer, 1500: wantAnswer, 2048: wantAnswer, 2049: wantSilence,
		2100: wantSilence, 9000: wantSilence, 60000: wantSilence} {
		add(want, fmt.Sprintf("%d bytes", n), "%s", padded(n))
		add(wantAnswer, fmt.Sprintf("%d bytes after a ping", n), "%s%s", ping, strings.Repeat("x", n-len(ping)))
		add(wantSilence, fmt.Sprintf("%d bytes of garbage", n), "%s", strings.Repeat("x", n))
	}

	// Transaction IDs.
	for n, want := range map[int]string{0: wantAnswer, 1: wantAnswer, 20: wantAnswer, 21: wantAnswer, 256: wantAnswer, 257: wantSilence, 1000: wantSilence} {
		add(want, fmt.Sprintf("transaction ID of %d bytes", n), "d1:ad2:id20:%se1:q4:ping1:t%s1:y1:qe", id, str(strings.Repeat("t", n)))
	}

	// What nobody asked for.
	for _, tid := range []string{"", "aa", "aaaa", "aaaaaaaa"} {
		add(wantSilence, "response", "d1:rd2:id20:%se1:t%s1:y1:re", id, str(tid))
		add(wantSilence, "error", "d1:eli201e4:spame1:t%s1:y1:ee", str(tid))
	}
	return all
}
