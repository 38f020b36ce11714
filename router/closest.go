package router

import (
	"fmt"
	"math/bits"
	"strconv"

	"kdht/bpf"
)

// bucketSize is k: contacts per bucket, and per reply (BEP 5).
const bucketSize = 8

// maxLevelBits is the largest b: how many bits of an ID a level of the table tells apart, its first included.
const maxLevelBits = bpf.MaxBits

// side is the reading side of one family's routing table.
//
// Level i holds the contacts whose ID shares exactly i leading bits with self. With diff = self XOR target, a
// contact of level i agrees with the target in bit i when that bit of diff is set, and every contact of a later
// level does not; when it is clear it is the other way round; and before bit i all of them have the same distance.
// So levels whose bit in diff is set, in rising order, then the others, in falling order, are in order of distance
// as wholes.
//
// A level is divided into buckets by the bits that follow in the contacts' IDs. Up to these bits all of its contacts have
// the same distance, so its buckets are in order of distance when they are visited in rising order of their number XOR the
// target's bits there. Only the last bucket taken needs a look at its contacts.
type side struct {
	self  words
	bits  int            // b: a level has 2^(b-1) buckets
	full  words          // bit i: level i is not empty
	taken [idBits]uint16 // of each level: bit j: bucket j is not empty
	first [idBits]uint16 // of each level: how many buckets that are not empty come before its own
	start []uint16       // the i-th bucket that is not empty is contacts start[i] to start[i+1]
	size  int            // bytes of compact node info per contact
	nodes []byte         // contacts ordered by bucket, compact
	head  []byte         // start of r in every reply: the key and our ID
	key   []byte         // key and length prefix of the contacts in a reply, which has min(k, all) of them
}

// newSide builds the reading side from n contacts of size bytes each; node(i) is the i-th of them.
func newSide(self ID, levelBits int, key string, size, n int, node func(int) []byte) (side, error) {
	s := side{self: wordsOf(&self), bits: levelBits, size: size}
	bucket := make([]uint16, n) // level and number in it
	for i := range n {
		level, number := bucketOf(self, ID(node(i)), levelBits)
		if level == idBits {
			return side{}, fmt.Errorf("router: contact %d of %q has our own ID", i, key)
		}
		s.taken[level] |= 1 << number
		bucket[i] = uint16(level<<maxLevelBits | number)
	}
	buckets := 0
	for level, set := range s.taken {
		s.first[level] = uint16(buckets)
		buckets += bits.OnesCount16(set)
		if set != 0 {
			s.full[level/64] |= 1 << (63 - level%64)
		}
	}
	if buckets > bpf.MaxBuckets {
		return side{}, fmt.Errorf("router: the contacts of %q are in %d buckets, more than %d", key, buckets, bpf.MaxBuckets)
	}
	s.start = make([]uint16, buckets+1)
	for i, b := range bucket {
		level, number := int(b>>maxLevelBits), int(b&(1<<maxLevelBits-1))
		bucket[i] = uint16(s.place(level, number))
		s.start[bucket[i]+1]++
	}
	next := make([]uint16, buckets)
	for i := range next {
		if s.start[i+1] > bucketSize {
			return side{}, fmt.Errorf("router: more than %d contacts of %q are in one bucket", bucketSize, key)
		}
		next[i] = s.start[i]
		s.start[i+1] += s.start[i]
	}
	s.nodes = make([]byte, n*size)
	for i, b := range bucket {
		for j := s.start[b]; j < next[b]; j++ {
			if ID(s.nodes[int(j)*size:][:20]) == ID(node(i)) {
				return side{}, fmt.Errorf("router: two contacts of %q have the ID %x", key, node(i)[:20])
			}
		}
		copy(s.nodes[int(next[b])*size:], node(i))
		next[b]++
	}
	s.head = append(append(s.head, "1:rd2:id20:"...), self[:]...)
	s.key = append(strconv.AppendInt(append(s.key, key...), int64(min(n, bucketSize)*size), 10), ':')
	return s, nil
}

// place returns how many buckets that are not empty come before one.
func (s *side) place(level, number int) int {
	return int(s.first[level]) + bits.OnesCount16(s.taken[level]&(1<<number-1))
}

// appendClosest appends the bucketSize contacts closest to target, compact: whole buckets by distance, inside a
// bucket in the table's order.
func (s *side) appendClosest(b []byte, target *ID) []byte {
	t := wordsOf(target)
	diff := s.self.xor(t)
	left := bucketSize
	for w := range 3 {
		for set := s.full[w] & diff[w]; set != 0; {
			lead := bits.LeadingZeros64(set)
			set &^= 1 << (63 - lead)
			if b, left = s.takeLevel(b, w*64+lead, left, &t); left == 0 {
				return b
			}
		}
	}
	for w := 2; w >= 0; w-- {
		for set := s.full[w] &^ diff[w]; set != 0; set &= set - 1 {
			if b, left = s.takeLevel(b, w*64+63-bits.TrailingZeros64(set), left, &t); left == 0 {
				return b
			}
		}
	}
	return b
}

// takeLevel appends up to left contacts of a level and returns how many more are wanted.
func (s *side) takeLevel(b []byte, level, left int, target *words) ([]byte, int) {
	by := target.after(level, s.bits-1)
	for set := xorEach(s.taken[level], by); set != 0 && left > 0; set &= set - 1 {
		place := s.place(level, bits.TrailingZeros16(set)^by)
		from, to := int(s.start[place]), int(s.start[place+1])
		nodes := s.nodes[from*s.size : to*s.size]
		if to-from > left {
			return s.appendNearest(b, nodes, to-from, left, target), 0
		}
		b = append(b, nodes...)
		left -= to - from
	}
	return b, left
}

// xorEach returns, of a set of numbers up to 15, the set of each number XOR by.
func xorEach(set uint16, by int) uint16 {
	for i, mask := range [...]uint16{0x5555, 0x3333, 0x0f0f, 0x00ff} {
		if by>>i&1 == 1 {
			shift := 1 << i
			set = set&mask<<shift | set>>shift&mask
		}
	}
	return set
}

// appendNearest appends the m contacts of a bucket of n that are closest to target, in the bucket's order.
func (s *side) appendNearest(b, nodes []byte, n, m int, target *words) []byte {
	var dist [bucketSize]words
	for i := range n {
		dist[i] = wordsOf((*ID)(nodes[i*s.size:])).xor(*target)
	}
	// rank[i] counts the contacts that are closer than contact i.
	var rank [bucketSize]uint64
	for i := 1; i < n; i++ {
		for j := range i {
			less := dist[i].less(&dist[j])
			rank[j] += less
			rank[i] += 1 - less
		}
	}
	for i := range n {
		if rank[i] < uint64(m) {
			b = append(b, nodes[i*s.size:(i+1)*s.size]...)
		}
	}
	return b
}
