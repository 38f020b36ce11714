package router

import (
	"encoding/binary"
	"math/bits"

	"kdht/router/krpc"
)

// ID is a node ID, a target or an infohash: 160 bits, the metric space of the DHT.
type ID = krpc.ID

// idBits is the length of an [ID] in bits.
const idBits = 160

// words is an [ID] as three big-endian words; the last 32 bits fill the upper half of the third, so that bit i of
// the ID is bit 63-i%64 of word i/64.
type words [3]uint64

func wordsOf(id *ID) words {
	return words{
		binary.BigEndian.Uint64(id[0:8]),
		binary.BigEndian.Uint64(id[8:16]),
		uint64(binary.BigEndian.Uint32(id[16:20])) << 32,
	}
}

func (a words) xor(b words) words {
	return words{a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2]}
}

// after returns the n bits, at most 63, that follow bit i, as a number. Those beyond the end of an ID are 0.
func (a *words) after(i, n int) int {
	w := a[i/64] << (i % 64)
	if i/64+1 < len(a) {
		w |= a[i/64+1] >> 1 >> (63 - i%64)
	}
	return int(w << 1 >> 1 >> (63 - n))
}

// less returns 1 if a < b as numbers, else 0. It does not branch: the outcome of comparing two distances is as
// good as random, and a wrong guess costs more than the arithmetic.
func (a *words) less(b *words) uint64 {
	_, borrow := bits.Sub64(a[2], b[2], 0)
	_, borrow = bits.Sub64(a[1], b[1], borrow)
	_, borrow = bits.Sub64(a[0], b[0], borrow)
	return borrow
}

// Distance returns the XOR of two IDs, which as a big-endian number is their distance.
func Distance(a, b ID) ID {
	var d ID
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// PrefixLen returns how many leading bits a and b share, 0 to 160.
func PrefixLen(a, b ID) int {
	d := wordsOf(&a).xor(wordsOf(&b))
	for i, w := range d {
		if w != 0 {
			return i*64 + bits.LeadingZeros64(w)
		}
	}
	return idBits
}

// Closer reports whether a is strictly closer to target than b is.
func Closer(target, a, b ID) bool {
	t := wordsOf(&target)
	da, db := wordsOf(&a).xor(t), wordsOf(&b).xor(t)
	return da.less(&db) == 1
}

// bucketOf returns the place of an ID in a table with b bits to a level: the level, which is the number of leading bits shared
// with self, and the number of the bucket in it, which the next b-1 bits are. self itself is in level 160, which there is not.
func bucketOf(self, id ID, b int) (level, number int) {
	w := wordsOf(&id)
	d := wordsOf(&self).xor(w)
	for i := range d {
		if d[i] != 0 {
			level = i*64 + bits.LeadingZeros64(d[i])
			return level, w.after(level, b-1)
		}
	}
	return idBits, 0
}
