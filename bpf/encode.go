package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
)

// Families as the C code indexes them.
const (
	ipv4 = iota
	ipv6
)

// encodeSnapshot lays out s as the C code reads it, with all sums and trees that it would otherwise have to compute
// for every reply. What is laid out already must be zeros or have come from here, failed or not: buckets whose contacts are
// still the same are left as they are.
func encodeSnapshot(out *kdhtSnapshot, s *Snapshot, version [4]byte) error {
	width := max(s.Bits, 1)
	if s.Bits < 0 || s.Bits > MaxBits {
		return fmt.Errorf("%w: levels of %d bits; want 1 to %d", ErrSnapshot, s.Bits, MaxBits)
	}
	var zero [18]byte
	encodePrefix(&out.Families[ipv4], "d2:ip6:", zero[:6], s.ID4)
	encodePrefix(&out.Families[ipv6], "d2:ip18:", zero[:18], s.ID6)
	four := contacts{s.ID4, width, len(s.Nodes4), func(i int) []byte { return s.Nodes4[i][:] }}
	err := encodeFamily(&out.Families[ipv4], func(place int) []byte { return out.Nodes[place][:] }, "5:nodes", four)
	if err != nil {
		return err
	}
	six := contacts{s.ID6, width, len(s.Nodes6), func(i int) []byte { return s.Nodes6[i][:] }}
	err = encodeFamily(&out.Families[ipv6], func(place int) []byte { return out.Nodes6[place][:] }, "6:nodes6", six)
	if err != nil {
		return err
	}
	out.Siphash = siphashState(s.Secret)
	tail := append([]byte("1:v4:"), version[:]...)
	tail = append(tail, "1:y1:re"...)
	out.TailSum = uint32(sum(tail))
	copy(out.Tail[:], tail)
	out.ReadOnly = [2]uint8{}
	if s.ReadOnly4 {
		out.ReadOnly[ipv4] = 1
	}
	if s.ReadOnly6 {
		out.ReadOnly[ipv6] = 1
	}
	return nil
}

// encodePrefix lays out the start of every reply to an asker of the family, with zeros for the asker's address.
func encodePrefix(f *kdhtFamily, ip string, addr []byte, self [20]byte) {
	prefix := append([]byte(ip), addr...)
	prefix = append(prefix, "1:rd2:id20:"...)
	prefix = append(prefix, self[:]...)
	copy(f.Prefix[:], prefix)
	f.PrefixSum = uint32(sum(prefix))
	lean := append([]byte("d1:rd2:id20:"), self[:]...)
	copy(f.Lean[:], lean)
	f.LeanSum = uint64(sum(lean))
	f.Self = words(self)
}

// contacts are those of one family.
type contacts struct {
	self [20]byte
	bits int
	n    int
	at   func(int) []byte // compact node info
}

// levelBuckets is how many buckets the layout has for a level.
const levelBuckets = 1 << (MaxBits - 1)

// bucket is the number of the bucket that an ID belongs to, among all of the layout. Our own has none: it is the number of
// buckets.
func (c *contacts) bucket(id [20]byte) int {
	level := commonPrefix(c.self, id)
	if level == Levels {
		return Levels * levelBuckets
	}
	w := words(id)
	word, off := level/64, level%64
	bits := w[word] << off
	if word+1 < len(w) {
		bits |= w[word+1] >> 1 >> (63 - off)
	}
	return level*levelBuckets + int(bits&(1<<63-1)>>(64-c.bits))
}

// encodeFamily lays out the contacts of a family. memory(i) is where those of the i-th bucket of the layout are.
func encodeFamily(f *kdhtFamily, memory func(int) []byte, key string, all contacts) error {
	var counts [Levels * levelBuckets]uint8
	buckets := make([]uint16, all.n)
	for i := range all.n {
		b := all.bucket([20]byte(all.at(i)))
		if b >= len(counts) {
			return fmt.Errorf("%w: a contact has our own ID %x", ErrSnapshot, all.self)
		}
		if counts[b] == BucketSize {
			return fmt.Errorf("%w: more than %d contacts in bucket %d of those that share %d bits with %x", ErrSnapshot, BucketSize, b%levelBuckets, b/levelBuckets, all.self)
		}
		counts[b]++
		buckets[i] = uint16(b)
	}
	if err := assignPlaces(f, &counts); err != nil {
		return err
	}
	var members [MaxBuckets][BucketSize]uint16
	var filled [MaxBuckets]uint8
	for i, b := range buckets {
		place := f.Place[b/levelBuckets][b%levelBuckets] - 1
		members[place][filled[place]] = uint16(i)
		filled[place]++
	}
	size := 0
	for place, n := range filled {
		if n == 0 {
			continue
		}
		var list [BucketSize][]byte
		for i, m := range members[place][:n] {
			list[i] = all.at(int(m))
		}
		size = len(list[0])
		if err := encodeBucket(&f.Buckets[place], memory(place), list[:n]); err != nil {
			return err
		}
	}
	f.Shift = uint64(64 - all.bits)
	f.Count = uint32(min(all.n, BucketSize))
	k := strconv.AppendInt([]byte(key), int64(f.Count)*int64(size), 10)
	k = append(k, ':')
	f.KeyLen = uint32(len(k))
	f.KeySum = uint32(sum(k))
	f.Key = [len(f.Key)]uint8{}
	copy(f.Key[:], k)
	return nil
}

// assignPlaces gives every bucket that has contacts a place in the layout, the one that it had before if it had one, and says
// which do.
func assignPlaces(f *kdhtFamily, counts *[Levels * levelBuckets]uint8) error {
	var taken [MaxBuckets]bool
	f.Full = [3]uint64{}
	for level := range f.Place {
		f.Taken[level] = 0
		for b := range f.Place[level] {
			switch place := &f.Place[level][b]; {
			case counts[level*levelBuckets+b] == 0:
				*place = 0
				continue
			case *place > 0:
				taken[*place-1] = true
			}
			f.Taken[level] |= 1 << b
			f.Full[level/64] |= 1 << (63 - level%64)
		}
	}
	next := 0
	for level := range f.Place {
		for b := range f.Place[level] {
			if counts[level*levelBuckets+b] == 0 || f.Place[level][b] > 0 {
				continue
			}
			for next < MaxBuckets && taken[next] {
				next++
			}
			if next == MaxBuckets {
				return fmt.Errorf("%w: contacts in more than %d buckets", ErrSnapshot, MaxBuckets)
			}
			taken[next] = true
			f.Place[level][b] = uint16(next + 1)
		}
	}
	return nil
}

// encodeBucket lays out the contacts of a bucket, unless they are there already.
func encodeBucket(b *kdhtBucket, memory []byte, list [][]byte) error {
	size := len(list[0])
	same := int(b.Count) == len(list)
	for i := 0; same && i < len(list); i++ {
		same = bytes.Equal(memory[i*size:(i+1)*size], list[i])
	}
	if same {
		return nil
	}
	*b = kdhtBucket{} // until it is whole
	ids := make([][20]byte, 0, BucketSize)
	for i, c := range list {
		copy(memory[i*size:], c)
		b.Sums[i] = sum(c)
		ids = append(ids, [20]byte(c))
	}
	if err := encodeForks(b, ids); err != nil {
		return err
	}
	b.Sum = sum(memory[:len(list)*size])
	b.Count = uint8(len(list))
	return nil
}

// encodeForks builds the binary tree of a bucket's IDs. Which of them are closest to a target depends only on the
// target's bits at its forks, of which there is one less than there are IDs.
func encodeForks(b *kdhtBucket, ids [][20]byte) error {
	used := uint8(0)
	var split func(set []int) (uint8, error)
	split = func(set []int) (uint8, error) {
		if len(set) < 2 {
			return 0, nil
		}
		at := Levels
		for _, i := range set[1:] {
			at = min(at, commonPrefix(ids[set[0]], ids[i]))
		}
		if at == Levels {
			return 0, fmt.Errorf("%w: two contacts have the ID %x", ErrSnapshot, ids[set[0]])
		}
		fork := used
		used++
		f := &b.Forks[fork]
		f.Word, f.Shift = uint8(at/64), uint8(63-at%64)
		var sides [2][]int
		for _, i := range set {
			side := 0
			if ids[i][at/8]&(0x80>>(at%8)) != 0 {
				side = 1
			}
			sides[side] = append(sides[side], i)
		}
		for side, members := range sides {
			for _, i := range members {
				b.Forks[fork].Contacts[side] |= 1 << i
			}
			b.Forks[fork].Count[side] = uint8(len(members))
			next, err := split(members)
			if err != nil {
				return 0, err
			}
			b.Forks[fork].Next[side] = next
		}
		return fork, nil
	}
	all := make([]int, len(ids))
	for i := range all {
		all[i] = i
	}
	_, err := split(all)
	return err
}

// siphashState is the state of SipHash after taking in the key.
func siphashState(key [16]byte) [4]uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	return [4]uint64{
		k0 ^ 0x736f6d6570736575, // "somepseudorandomlygeneratedbytes"
		k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261,
		k1 ^ 0x7465646279746573,
	}
}

// sum is the ones' complement sum of b as little-endian words of 16 bits.
func sum(b []byte) uint16 {
	s := uint32(0)
	for i, c := range b {
		s += uint32(c) << (8 * (i % 2))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// words gives an ID as numbers, the most significant first, padded with zeros.
func words(id [20]byte) [3]uint64 {
	return [3]uint64{
		binary.BigEndian.Uint64(id[:]),
		binary.BigEndian.Uint64(id[8:]),
		uint64(binary.BigEndian.Uint32(id[16:])) << 32,
	}
}

// commonPrefix is the number of leading bits that two IDs share.
func commonPrefix(a, b [20]byte) int {
	x, y := words(a), words(b)
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 64*i + bits.LeadingZeros64(d)
		}
	}
	return Levels
}
