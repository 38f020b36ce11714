package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// pair is a key of a dictionary and its value, bencoded.
type pair struct{ key, value string }

func bstring(s string) string { return fmt.Sprintf("%d:%s", len(s), s) }

// anything returns a random bencoded value, seldom one that is not canonical.
func anything(r *rand.Rand, depth int) string {
	switch k := r.IntN(16); {
	case k < 5:
		return bstring(strings.Repeat("v", r.IntN(30)))
	case k < 9:
		return fmt.Sprintf("i%de", r.Int64()>>r.IntN(64)-int64(r.IntN(3)))
	case k < 11 && depth > 0:
		out := "l"
		for range r.IntN(4) {
			out += anything(r, depth-1)
		}
		return out + "e"
	case k < 13 && depth > 0:
		var all []pair
		for range r.IntN(4) {
			all = append(all, pair{strings.Repeat(string(rune('a'+r.IntN(4))), r.IntN(3)), anything(r, depth-1)})
		}
		return dictionary(r, all)
	case k == 13:
		return []string{"i01e", "i-0e", "02:aa", "ie", "i-e", "1:", ":", "i1", "x"}[r.IntN(9)]
	}
	return bstring(anID)
}

// dictionary writes a dictionary, usually sorted and without duplicate keys.
func dictionary(r *rand.Rand, all []pair) string {
	if r.IntN(12) > 0 {
		slices.SortStableFunc(all, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	}
	if r.IntN(12) > 0 {
		all = slices.CompactFunc(all, func(a, b pair) bool { return a.key == b.key })
	}
	out := "d"
	for _, p := range all {
		out += bstring(p.key) + p.value
	}
	return out + "e"
}

// usually returns v, or seldom anything else.
func usually(r *rand.Rand, v string) string {
	if r.IntN(40) == 0 {
		return anything(r, 3)
	}
	return v
}

// oddQuery returns a query with any arguments, or nearly a query.
func oddQuery(r *rand.Rand) []byte {
	flag := func() string { return fmt.Sprintf("i%de", r.IntN(2)+r.IntN(20)/19) }
	var args []pair
	add := func(to *[]pair, one int, key, value string) {
		if r.IntN(one) == 0 {
			*to = append(*to, pair{key, usually(r, value)})
		}
	}
	if r.IntN(30) > 0 {
		add(&args, 1, "id", bstring(anID))
	}
	method := []string{"ping", "find_node", "get_peers", "get", "get_peers", "get", "put", "announce_peer", "sample_infohashes", "vote"}[r.IntN(10)]
	switch method {
	case "find_node", "get", "sample_infohashes":
		add(&args, 1, "target", bstring(aTarget))
	case "get_peers", "announce_peer":
		add(&args, 1, "info_hash", bstring(aTarget))
	}
	add(&args, 30, "target", bstring(aTarget))
	add(&args, 30, "info_hash", bstring(aTarget))
	add(&args, 4, "want", []string{"le", "l2:n4e", "l2:n6e", "l2:n42:n6e", "l2:n62:n4e", "l2:n52:n4e", "l3:n4xe", "l2:n42:n4e"}[r.IntN(8)])
	add(&args, 6, "noseed", flag())
	add(&args, 6, "scrape", flag())
	add(&args, 8, "bs", flag())
	add(&args, 8, "name", bstring("a name"))
	add(&args, 8, "seq", fmt.Sprintf("i%de", r.Int64()>>r.IntN(64)))
	add(&args, 10, []string{"", "a", "id2", "i", "targets", "target\x00", "wan", "z", "info_hash_of_it", "a_key_longer_than_others"}[r.IntN(10)], anything(r, 3))
	for _, k := range []string{"cas", "implied_port", "k", "port", "salt", "seed", "sig", "token", "v"} {
		add(&args, 60, k, anything(r, 2))
	}

	var top []pair
	add(&top, 1, "a", dictionary(r, args))
	add(&top, 1, "q", bstring(method))
	if r.IntN(30) > 0 {
		add(&top, 1, "t", bstring(strings.Repeat("t", r.IntN(5)+r.IntN(10)/9*r.IntN(22))))
	}
	if r.IntN(30) > 0 {
		add(&top, 1, "y", bstring([]string{"q", "q", "q", "q", "q", "q", "q", "q", "r", "e", "Q", "", "qq"}[r.IntN(13)]))
	}
	add(&top, 2, "v", bstring(strings.Repeat("v", 4+r.IntN(9)/8*r.IntN(10))))
	add(&top, 5, "ro", flag())
	add(&top, 8, "ip", bstring("abcdef"))
	add(&top, 30, "r", anything(r, 3))
	add(&top, 60, "e", "li201e5:errore")
	add(&top, 10, []string{"", "b", "c", "q2", "tt", "z", "a_key_longer_than_others"}[r.IntN(7)], anything(r, 6))
	out := dictionary(r, top)
	switch r.IntN(60) {
	case 0:
		out += "\n"
	case 1:
		out = out[:len(out)-r.IntN(3)]
	case 2:
		at := r.IntN(len(out))
		out = out[:at] + string(rune(r.IntN(128))) + out[at:]
	}
	return []byte(out)
}

// TestOddQueries compares the halves on queries that are composed at random, of known keys and unknown ones, in odd
// combinations, with wrong values, or nearly in the right form.
func TestOddQueries(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 1))
	s := snapshot(r, 100, 100)
	p, v := program(t, s), view(t, s)
	n, answered := pairs(t, 100000), 0
	before := counts(t, p)
	for range n {
		if compare(t, p, v, datagramFor(r, oddQuery(r))) {
			answered++
		}
	}
	if answered < n/10 {
		t.Errorf("only %d of %d were answered", answered, n)
	}
	moved := map[string]uint64{}
	for k, c := range counts(t, p) {
		if c > before[k] {
			moved[k] = c - before[k]
		}
	}
	t.Log(moved)
}
