package router

import (
	"fmt"
	"math/bits"
	"strconv"
)

// bucketSize is k: contacts per bucket, and per reply (BEP 5).
const bucketSize = 8

// side is the reading side of one family's routing table.
//
// Bucket i holds the contacts whose ID shares exactly i leading bits with self. With diff = self XOR target, a
// contact of bucket i agrees with the target in bit i when that bit of diff is set, and every contact of a later
// bucket does not; when it is clear it is the other way round; and before bit i all of them have the same distance.
// So buckets whose bit in diff is set, in rising order, then the others, in falling order, are in order of distance
// as wholes, and only the last bucket taken needs a look at its contacts.
type side struct {
	self  words
	full  words             // bit i: bucket i is not empty
	start [idBits + 1]int16 // bucket i is contacts start[i] to start[i+1]
	size  int               // bytes of compact node info per contact
	nodes []byte            // contacts ordered by bucket, compact
	head  []byte            // start of r in every reply: the key and our ID
	key   []byte            // key and length prefix of the contacts in a reply, which has min(k, all) of them
}

// newSide builds the reading side from n contacts of size bytes each; node(i) is the i-th of them.
func newSide(self ID, key string, size, n int, node func(int) []byte) (side, error) {
	s := side{self: wordsOf(&self), size: size}
	bucket := make([]uint8, n)
	var count [idBits]int16
	for i := range n {
		b := PrefixLen(self, ID(node(i)))
		if b == idBits {
			return side{}, fmt.Errorf("router: contact %d of %q has our own ID", i, key)
		}
		if count[b] == bucketSize {
			return side{}, fmt.Errorf("router: more than %d contacts of %q share %d bits with us", bucketSize, key, b)
		}
		bucket[i] = uint8(b)
		count[b]++
	}
	var next [idBits]int16
	for b, c := range count {
		next[b] = s.start[b]
		s.start[b+1] = s.start[b] + c
		if c > 0 {
			s.full[b/64] |= 1 << (63 - b%64)
		}
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

// appendClosest appends the bucketSize contacts closest to target, compact: whole buckets by distance, inside a
// bucket in the table's order.
func (s *side) appendClosest(b []byte, target *ID) []byte {
	diff := s.self.xor(wordsOf(target))
	left := bucketSize
	for w := range 3 {
		for set := s.full[w] & diff[w]; set != 0; {
			lead := bits.LeadingZeros64(set)
			set &^= 1 << (63 - lead)
			if b, left = s.take(b, w*64+lead, left, target); left == 0 {
				return b
			}
		}
	}
	for w := 2; w >= 0; w-- {
		for set := s.full[w] &^ diff[w]; set != 0; set &= set - 1 {
			if b, left = s.take(b, w*64+63-bits.TrailingZeros64(set), left, target); left == 0 {
				return b
			}
		}
	}
	return b
}

// take appends up to left contacts of a bucket and returns how many more are wanted.
func (s *side) take(b []byte, bucket, left int, target *ID) ([]byte, int) {
	from, to := int(s.start[bucket]), int(s.start[bucket+1])
	nodes := s.nodes[from*s.size : to*s.size]
	if to-from <= left {
		return append(b, nodes...), left - (to - from)
	}
	return s.appendNearest(b, nodes, to-from, left, target), 0
}

// appendNearest appends the m contacts of a bucket of n that are closest to target, in the bucket's order.
func (s *side) appendNearest(b, nodes []byte, n, m int, target *ID) []byte {
	var dist [bucketSize]words
	t := wordsOf(target)
	for i := range n {
		dist[i] = wordsOf((*ID)(nodes[i*s.size:])).xor(t)
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
