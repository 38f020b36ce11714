package bpf

import (
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
// for every reply.
func encodeSnapshot(out *kdhtSnapshot, s *Snapshot, version [4]byte) error {
	*out = kdhtSnapshot{}
	var zero [18]byte
	encodePrefix(&out.Families[ipv4], "d2:ip6:", zero[:6], s.ID4)
	encodePrefix(&out.Families[ipv6], "d2:ip18:", zero[:18], s.ID6)
	for i := range s.Nodes4 {
		if err := addContact(&out.Families[ipv4], &out.Nodes, s.ID4, s.Nodes4[i][:]); err != nil {
			return err
		}
	}
	for i := range s.Nodes6 {
		if err := addContact(&out.Families[ipv6], &out.Nodes6, s.ID6, s.Nodes6[i][:]); err != nil {
			return err
		}
	}
	if err := encodeBuckets(&out.Families[ipv4], &out.Nodes, "5:nodes", len(zero[:6])+20); err != nil {
		return err
	}
	if err := encodeBuckets(&out.Families[ipv6], &out.Nodes6, "6:nodes6", len(zero)+20); err != nil {
		return err
	}
	out.Siphash = siphashState(s.Secret)
	tail := append([]byte("1:v4:"), version[:]...)
	tail = append(tail, "1:y1:re"...)
	out.TailSum = uint32(sum(tail))
	copy(out.Tail[:], tail)
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

// addContact puts a contact at the end of its bucket.
func addContact[B [160][208]byte | [160][304]byte](f *kdhtFamily, nodes *B, self [20]byte, node []byte) error {
	bucket := commonPrefix(self, [20]byte(node))
	if bucket == Buckets {
		return fmt.Errorf("%w: a contact has our own ID %x", ErrSnapshot, self)
	}
	b := &f.Buckets[bucket]
	if b.Count == BucketSize {
		return fmt.Errorf("%w: more than %d contacts share %d bits with %x", ErrSnapshot, BucketSize, bucket, self)
	}
	var to []byte
	switch n := any(nodes).(type) {
	case *[160][208]byte:
		to = n[bucket][:]
	case *[160][304]byte:
		to = n[bucket][:]
	}
	copy(to[int(b.Count)*len(node):], node)
	b.Count++
	return nil
}

// encodeBuckets completes a family whose contacts are all in their buckets.
func encodeBuckets[B [160][208]byte | [160][304]byte](f *kdhtFamily, nodes *B, key string, size int) error {
	total := 0
	for i := range f.Buckets {
		b := &f.Buckets[i]
		if b.Count == 0 {
			continue
		}
		var contacts []byte
		switch n := any(nodes).(type) {
		case *[160][208]byte:
			contacts = n[i][:]
		case *[160][304]byte:
			contacts = n[i][:]
		}
		contacts = contacts[:int(b.Count)*size]
		total += int(b.Count)
		f.Full[i/64] |= 1 << (63 - i%64)
		b.Sum = sum(contacts)
		ids := make([][20]byte, 0, BucketSize)
		for c := range int(b.Count) {
			contact := contacts[c*size:][:size]
			b.Sums[c] = sum(contact)
			ids = append(ids, [20]byte(contact))
		}
		if err := encodeForks(b, ids); err != nil {
			return err
		}
	}
	f.Count = uint32(min(total, BucketSize))
	k := strconv.AppendInt([]byte(key), int64(f.Count)*int64(size), 10)
	k = append(k, ':')
	f.KeyLen = uint32(len(k))
	f.KeySum = uint32(sum(k))
	copy(f.Key[:], k)
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
		at := Buckets
		for _, i := range set[1:] {
			at = min(at, commonPrefix(ids[set[0]], ids[i]))
		}
		if at == Buckets {
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
	return Buckets
}
