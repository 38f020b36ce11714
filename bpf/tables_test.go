package bpf_test

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"slices"

	"kdht/bpf"
)

type id = [20]byte

func randomID(r *rand.Rand) (i id) {
	for j := range i {
		i[j] = byte(r.Uint32())
	}
	return i
}

func xor(a, b id) (d id) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

func commonPrefix(a, b id) int {
	for i, c := range xor(a, b) {
		if c != 0 {
			return 8*i + bits.LeadingZeros8(c)
		}
	}
	return 160
}

// idAt returns a random ID that shares exactly n bits with self.
func idAt(r *rand.Rand, self id, n int) id {
	out := randomID(r)
	for i := range n {
		mask := byte(0x80 >> (i % 8))
		out[i/8] = out[i/8]&^mask | self[i/8]&mask
	}
	if n < 160 {
		mask := byte(0x80 >> (n % 8))
		out[n/8] = out[n/8]&^mask | ^self[n/8]&mask
	}
	return out
}

// table returns n contacts of size bytes, as many of them as there are IDs for, in random order.
func table(r *rand.Rand, self id, n, size int) [][]byte {
	var out [][]byte
	seen := map[id]bool{}
	var counts [160]int
	deep := r.IntN(4) == 0 // everything close to us, instead of the usual thinning out
	for tries := 0; len(out) < n && tries < 40*n+100; tries++ {
		bucket := r.IntN(160)
		if n < 200 && !deep {
			bucket = min(bits.TrailingZeros64(r.Uint64())+r.IntN(1+n/8), 159)
		}
		if counts[bucket] == 8 {
			continue
		}
		c := make([]byte, size)
		for i := range c {
			c[i] = byte(r.Uint32())
		}
		i := idAt(r, self, bucket)
		if r.IntN(3) == 0 && len(out) > 0 { // a near twin of another contact
			twin := id(out[r.IntN(len(out))])
			i = idAt(r, twin, min(159, 40+r.IntN(120)))
			bucket = commonPrefix(self, i)
			if bucket == 160 || counts[bucket] == 8 {
				continue
			}
		}
		if seen[i] {
			continue
		}
		seen[i] = true
		counts[bucket]++
		copy(c, i[:])
		out = append(out, c)
	}
	return out
}

// snapshot returns a random snapshot with n4 and n6 contacts.
func snapshot(r *rand.Rand, n4, n6 int) *bpf.Snapshot {
	s := &bpf.Snapshot{ID4: randomID(r), ID6: randomID(r)}
	for i := range s.Secret {
		s.Secret[i] = byte(r.Uint32())
	}
	for _, c := range table(r, s.ID4, n4, 26) {
		s.Nodes4 = append(s.Nodes4, [26]byte(c))
	}
	for _, c := range table(r, s.ID6, n6, 38) {
		s.Nodes6 = append(s.Nodes6, [38]byte(c))
	}
	return s
}

// target returns an ID that is random, or close to us or to a contact, or one of these.
func target(r *rand.Rand, s *bpf.Snapshot) id {
	near := s.ID4
	switch k := r.IntN(6); {
	case k == 0:
		return randomID(r)
	case k == 1:
		near = s.ID6
	case k == 2 && len(s.Nodes4) > 0:
		near = id(s.Nodes4[r.IntN(len(s.Nodes4))][:])
	case k == 3 && len(s.Nodes6) > 0:
		near = id(s.Nodes6[r.IntN(len(s.Nodes6))][:])
	}
	return idAt(r, near, r.IntN(161))
}

// closest sorts a whole table by distance and returns the 8 closest contacts in the order in which they belong in a
// reply: by bucket, and inside a bucket as in the table.
func closest[N [26]byte | [38]byte](self, target id, nodes []N) []byte {
	bytesOf := func(i int) []byte {
		switch n := any(&nodes[i]).(type) {
		case *[26]byte:
			return n[:]
		case *[38]byte:
			return n[:]
		}
		return nil
	}
	idOf := func(i int) id { return id(bytesOf(i)) }
	all := make([]int, len(nodes))
	for i := range all {
		all[i] = i
	}
	slices.SortFunc(all, func(a, b int) int {
		x, y := xor(idOf(a), target), xor(idOf(b), target)
		return bytes.Compare(x[:], y[:])
	})
	all = all[:min(8, len(all))]
	var buckets []int // in order of their nearest contact
	for _, i := range all {
		if b := commonPrefix(self, idOf(i)); !slices.Contains(buckets, b) {
			buckets = append(buckets, b)
		}
	}
	slices.Sort(all)
	var out []byte
	for _, b := range buckets {
		for _, i := range all {
			if commonPrefix(self, idOf(i)) == b {
				out = append(out, bytesOf(i)...)
			}
		}
	}
	return out
}
