package bpf_test

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// FuzzDifferential gives both halves the same datagram, over IPv4 and over IPv6: the kernel's answer must be that of
// user space, byte for byte, or none.
func FuzzDifferential(f *testing.F) {
	s := snapshot(rand.New(rand.NewPCG(8, 1)), 200, 60)
	p, v := program(f, s), view(f, s)
	for _, e := range payloads {
		f.Add([]byte(e.payload))
	}
	for _, e := range examples(f) {
		if b, err := hex.DecodeString(e.Hex); err == nil {
			f.Add(b)
		}
	}
	r := rand.New(rand.NewPCG(8, 3))
	for range 200 {
		f.Add(oddQuery(r))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 1400 {
			return
		}
		compare(t, p, v, queryTo(node4, asker4, payload))
		compare(t, p, v, queryTo(node6, asker6, payload))
	})
}

// TestMutations cuts every kind of query at each length, and replaces each of its bytes by each other: the halves must
// agree, or the kernel must pass.
func TestMutations(t *testing.T) {
	s := snapshot(rand.New(rand.NewPCG(8, 2)), 200, 60)
	p, v := program(t, s), view(t, s)
	step := 1
	if n := pairs(t, 100000); n < 100000 {
		step = 100000 / max(n, 1)
	}
	answered, passed := 0, 0
	try := func(payload []byte) {
		to, from := node4, asker4
		if (answered+passed)%2 == 1 {
			to, from = node6, asker6
		}
		if compare(t, p, v, queryTo(to, from, payload)) {
			answered++
		} else {
			passed++
		}
	}
	n := 0
	for _, query := range []string{
		"d1:ad2:id20:" + anID + "e1:q4:ping2:roi1e1:t2:aa1:v4:LT\x02\x081:y1:qe",
		"d1:ad2:id20:" + anID + "6:target20:" + aTarget + "4:wantl2:n42:n6ee1:q9:find_node1:t4:aaaae",
		"d1:ad2:bsi1e2:id20:" + anID + "9:info_hash20:" + aTarget + "6:noseedi1e6:scrapei0e4:wantl2:n6ee1:q9:get_peers1:t12:abcdefghijkl1:y1:qe",
		"d1:ad2:id20:" + anID + "3:seqi1700000000e6:target20:" + aTarget + "e2:ip6:abcdef1:q3:get1:t1:a1:xld1:ai1eee1:y1:qe",
		findNode, getPeers, get,
	} {
		for i := range query {
			try([]byte(query[:i]))
			for c := range 256 {
				if n++; n%step == 0 {
					b := []byte(query)
					b[i] = byte(c)
					try(b)
				}
			}
		}
	}
	t.Logf("%d answered, %d passed", answered, passed)
}
