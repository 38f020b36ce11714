package bpf_test

import (
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

// nearer is negative where a is nearer to the target than b, positive where b is, and 0 where they are one. It looks at bytes up to the first
// that differs: brute force sorts thousands of contacts for every query, also in emulators.
func nearer(target, a, b []byte) int {
	for i, c := range target {
		if x, y := a[i]^c, b[i]^c; x != y {
			return int(x) - int(y)
		}
	}
	return 0
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

// bucketOf is the bucket of an ID in a table with b bits to a level: the level, and in the last place its number there.
func bucketOf(self, i id, b int) (key [2]int) {
	key[0] = commonPrefix(self, i)
	for bit := key[0] + 1; bit < key[0]+b; bit++ {
		key[1] *= 2
		if bit < 160 && i[bit/8]&(0x80>>(bit%8)) != 0 {
			key[1]++
		}
	}
	return key
}

// table returns n contacts of size bytes, as many of them as there is room for, in random order.
func table(r *rand.Rand, self id, b, n, size int) [][]byte {
	var out [][]byte
	seen := map[id]bool{}
	counts := map[[2]int]int{}
	fits := func(i id) bool {
		c, ok := counts[bucketOf(self, i, b)]
		return i != self && !seen[i] && c < 8 && (ok || len(counts) < bpf.MaxBuckets)
	}
	deep := r.IntN(4) == 0 // everything close to us, instead of the usual thinning out
	levels := 160
	if r.IntN(2) == 0 { // those that n contacts fill
		levels = min(160, 1+n>>(b+2))
	}
	for tries := 0; len(out) < n && tries < 40*n+100; tries++ {
		level := r.IntN(levels)
		if n < 200 && !deep {
			level = min(bits.TrailingZeros64(r.Uint64())+r.IntN(1+n/8), 159)
		}
		c := make([]byte, size)
		for i := range c {
			c[i] = byte(r.Uint32())
		}
		i := idAt(r, self, level)
		if r.IntN(3) == 0 && len(out) > 0 { // a near twin of another contact
			i = idAt(r, id(out[r.IntN(len(out))]), min(159, 40+r.IntN(120)))
		}
		if !fits(i) {
			continue
		}
		seen[i] = true
		counts[bucketOf(self, i, b)]++
		copy(c, i[:])
		out = append(out, c)
	}
	return out
}

// snapshot returns a random snapshot with up to n4 and n6 contacts, of a table with any number of bits to a level.
func snapshot(r *rand.Rand, n4, n6 int) *bpf.Snapshot {
	return wideSnapshot(r, r.IntN(bpf.MaxBits+1), n4, n6)
}

func wideSnapshot(r *rand.Rand, b, n4, n6 int) *bpf.Snapshot {
	s := &bpf.Snapshot{Bits: b, ID4: randomID(r), ID6: randomID(r)}
	for i := range s.Secret {
		s.Secret[i] = byte(r.Uint32())
	}
	for _, c := range table(r, s.ID4, b, n4, 26) {
		s.Nodes4 = append(s.Nodes4, [26]byte(c))
	}
	for _, c := range table(r, s.ID6, b, n6, 38) {
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
func closest[N [26]byte | [38]byte](b int, self, target id, nodes []N) []byte {
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
		return nearer(target[:], bytesOf(a), bytesOf(b))
	})
	all = all[:min(8, len(all))]
	var buckets [][2]int // in order of their nearest contact
	for _, i := range all {
		if k := bucketOf(self, idOf(i), b); !slices.Contains(buckets, k) {
			buckets = append(buckets, k)
		}
	}
	slices.Sort(all)
	var out []byte
	for _, k := range buckets {
		for _, i := range all {
			if bucketOf(self, idOf(i), b) == k {
				out = append(out, bytesOf(i)...)
			}
		}
	}
	return out
}
