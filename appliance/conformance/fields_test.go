package conformance_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"kdht/router/krpc"
)

// values are bencoded values of every type, by the first byte.
var values = map[byte][]string{
	'i': {num(7), num(-1)},
	'4': {str("spam")},
	'l': {"le", "l" + str("spam") + "e"},
	'd': {"de", "d1:xi1ee"},
}

// testFields gives every key of every method every wrong type, and strings that have a size another one.
func testFields(t *testing.T, p *pair) {
	const protocol, answer = "error 203", wantAnswer
	it := signed([]byte("types"), 5, []byte(str("value")))
	specs := []struct {
		q    query
		want map[string]string // what a wrong type gives
	}{
		{newQuery("ping"), map[string]string{"id": protocol}},
		{newQuery("find_node", "target", str(target), "want", "l"+str("n4")+"e"),
			map[string]string{"id": protocol, "target": protocol, "want": answer}},
		{newQuery("get_peers", "info_hash", str(absent), "name", str("n"), "noseed", num(0), "scrape", num(0), "want", "l"+str("n4")+"e"),
			map[string]string{"id": protocol, "info_hash": protocol, "name": answer, "noseed": answer, "scrape": answer, "want": answer}},
		{newQuery("get_peers", "info_hash", str(target), "noseed", num(1), "scrape", num(1), "want", "l"+str("n6")+"e"),
			map[string]string{"id": protocol, "info_hash": protocol, "noseed": answer, "scrape": answer, "want": answer}},
		{newQuery("announce_peer", "implied_port", num(0), "info_hash", str("announced with wrong"), "name", str("n"), "port", num(7), "seed", num(0), "token", ""),
			map[string]string{"id": protocol, "implied_port": answer, "info_hash": protocol, "name": answer, "port": protocol, "seed": answer, "token": protocol}},
		{newQuery("get", "target", str(absent), "seq", num(5), "want", "l"+str("n4")+"e"),
			map[string]string{"id": protocol, "target": protocol, "seq": answer, "want": answer}},
		{newQuery("put", "token", "", "v", str("value")),
			map[string]string{"id": protocol, "token": protocol, "v": answer}}, // a value may have any type
		{putQuery(it, "").with("cas", num(5)),
			map[string]string{"cas": protocol, "id": protocol, "k": protocol, "salt": protocol, "seq": protocol, "sig": protocol, "token": protocol}},
		{newQuery("sample_infohashes", "target", str(target), "want", "l"+str("n6")+"e"),
			map[string]string{"id": protocol, "target": protocol, "want": answer}},
	}
	sizes := map[string][]int{"id": {0, 1, 19, 21, 32, 255}, "target": {0, 1, 19, 21, 40}, "info_hash": {0, 1, 19, 21, 40},
		"token": {0, 1, 4, 7, 9, 16, 40, 255}, "k": {0, 1, 31, 33, 64}, "sig": {0, 1, 63, 65, 128}}
	for _, to := range []netip.AddrPort{node4, node6} {
		cs := p.clients(t, clientFor(to), to)
		token := str(askToken(t, cs[0])) // both nodes give the same
		for _, s := range specs {
			q := s.q
			if _, ok := q.args["token"]; ok {
				q = q.with("token", token)
			}
			method := q.top["q"]
			p.same(t, cs, method, q.bytes(), answer)
			for key, want := range s.want {
				kind := q.args[key][0]
				if kind >= '0' && kind <= '9' {
					kind = '4'
				}
				for other, values := range values {
					if other == kind && sizes[key] == nil {
						continue // right
					}
					for _, v := range values {
						p.same(t, cs, fmt.Sprintf("%s with %s = %s", method, key, v), q.with(key, v).bytes(), want)
					}
				}
				for _, n := range sizes[key] {
					v := str(strings.Repeat("s", n))
					p.same(t, cs, fmt.Sprintf("%s with %s of %d bytes", method, key, n), q.with(key, v).bytes(), want)
				}
				if want == protocol && key != "cas" && key != "salt" && key != "k" { // all others are needed
					p.same(t, cs, fmt.Sprintf("%s without %s", method, key), q.with(key, "").bytes(), want)
				}
			}
		}
		for _, port := range []string{num(0), num(65536), num(-1), num(1 << 32), "i99999999999999999999e"} {
			q := newQuery("announce_peer", "info_hash", str(absent), "port", port, "token", token)
			p.same(t, cs, "announce_peer with port "+port, q.bytes(), protocol)
		}
		testTop(t, p, cs)
	}
}

// testTop gives the keys at the top level wrong types.
func testTop(t *testing.T, p *pair, cs [2]*client) {
	q := newQuery("ping").withTop("v", str("TT00"), "ip", str("\x7f\x00\x00\x01\x00\x01"), "ro", num(1))
	wants := map[string]string{"a": wantError(krpc.ErrCodeProtocol), "q": wantError(krpc.ErrCodeProtocol), "t": wantSilence,
		"y": wantSilence, "v": wantAnswer, "ip": wantAnswer, "ro": wantAnswer}
	for key, want := range wants {
		for _, values := range values {
			for _, v := range values {
				want := want
				switch {
				case key == "t" && v == str("spam"), key == "y" && v == str("q"):
					want = wantAnswer // right
				case key == "q" && v == str("spam"):
					want = wantError(krpc.ErrCodeMethod)
				case key == "a" && v[0] == 'd':
					want = wantError(krpc.ErrCodeProtocol) // without id
				}
				p.same(t, cs, fmt.Sprintf("ping with %s = %s at the top", key, v), q.withTop(key, v).bytes(), want)
			}
		}
	}
	for _, y := range []string{"", "x", "qq", "query", "Q"} {
		p.same(t, cs, "y is "+y, q.withTop("y", str(y)).bytes(), wantSilence)
	}
	for _, method := range []string{"", "PING", "pin", "pingg", strings.Repeat("m", 500), "\x00"} {
		p.same(t, cs, "q is "+method, q.withTop("q", str(method)).bytes(), wantError(krpc.ErrCodeMethod))
	}
	for key, want := range map[string]string{"a": wants["a"], "q": wants["q"], "t": wantSilence, "y": wantSilence} {
		if key == "a" {
			p.same(t, cs, "no a", []byte("d"+"1:q4:ping1:t2:aa1:y1:qe"), want)
			continue
		}
		p.same(t, cs, "no "+key, q.withTop(key, "").bytes(), want)
	}
}
