package router_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kdht/bpf"
	"kdht/router"
)

// bucketOf is the bucket of an ID in a table with b bits to a level: the level, and in the last place its number there.
func bucketOf(self, id router.ID, b int) (key [2]int) {
	key[0] = router.PrefixLen(self, id)
	return [2]int{key[0], numberIn(id, key[0], b)}
}

// numberIn is the number of the bucket of a level that an ID would belong to.
func numberIn(id router.ID, level, b int) (n int) {
	for i := level + 1; i < level+b; i++ {
		n *= 2
		if i < 160 && bit(id, i) {
			n++
		}
	}
	return n
}

// randomSnapshot returns tables with b bits to a level and up to n contacts in each family, spread over random buckets in
// random order.
func randomSnapshot(r *rand.Rand, b, n int) *bpf.Snapshot {
	s := &bpf.Snapshot{Bits: b, ID4: randomID(r), ID6: randomID(r)}
	binary.LittleEndian.PutUint64(s.Secret[:], r.Uint64())
	binary.LittleEndian.PutUint64(s.Secret[8:], r.Uint64())
	depth := 1 + r.IntN(160)
	if n > 300 {
		depth = max(2*n>>(b+2), bpf.MaxBuckets>>(b-1))
	}
	depth = min(depth, 160, bpf.MaxBuckets>>(b-1))
	for _, id := range randomTable(r, s.ID4, b, n, depth) {
		c := [26]byte(append(id[:], make([]byte, 6)...))
		binary.BigEndian.PutUint32(c[20:], r.Uint32())
		binary.BigEndian.PutUint16(c[24:], uint16(r.Uint32()))
		s.Nodes4 = append(s.Nodes4, c)
	}
	for _, id := range randomTable(r, s.ID6, b, n, depth) {
		c := [38]byte(append(id[:], make([]byte, 18)...))
		binary.BigEndian.PutUint64(c[20:], r.Uint64())
		binary.BigEndian.PutUint64(c[28:], r.Uint64())
		binary.BigEndian.PutUint16(c[36:], uint16(r.Uint32()))
		s.Nodes6 = append(s.Nodes6, c)
	}
	return s
}

// randomTable returns up to n different IDs, at most 8 for each bucket of the levels below depth.
func randomTable(r *rand.Rand, self router.ID, b, n, depth int) (ids []router.ID) {
	seen := make(map[router.ID]bool)
	room := make(map[[2]int]int)
	for level := range depth {
		for range 8 << (b - 1) {
			id := sharing(r, self, level)
			if at := bucketOf(self, id, b); !seen[id] && room[at] < 8 {
				seen[id] = true
				room[at]++
				ids = append(ids, id)
			}
		}
	}
	r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(n, len(ids))]
}

// closestBySorting is the definition: the 8 smallest distances of all, put in the order of replies.
func closestBySorting(b int, self, target router.ID, table [][]byte) []byte {
	type row struct {
		contact []byte
		dist    router.ID
		visit   int // when its bucket is visited
	}
	all := make([]row, len(table))
	diff := router.Distance(self, target)
	for i, c := range table {
		at := bucketOf(self, router.ID(c), b)
		level := at[0]
		if !bit(diff, level) {
			level = 320 - level
		}
		all[i] = row{c, router.Distance(target, router.ID(c)), level<<4 | at[1] ^ numberIn(target, at[0], b)}
	}
	byDistance := slices.Clone(all)
	slices.SortFunc(byDistance, func(a, b row) int { return bytes.Compare(a.dist[:], b.dist[:]) })
	byDistance = byDistance[:min(8, len(all))]
	all = slices.DeleteFunc(all, func(a row) bool {
		return !slices.ContainsFunc(byDistance, func(b row) bool { return a.dist == b.dist })
	})
	slices.SortStableFunc(all, func(a, b row) int { return a.visit - b.visit })
	var out []byte
	for _, a := range all {
		out = append(out, a.contact...)
	}
	return out
}

func rows(s *bpf.Snapshot, f router.Family) (self router.ID, table [][]byte) {
	if f == router.IPv4 {
		for i := range s.Nodes4 {
			table = append(table, s.Nodes4[i][:])
		}
		return s.ID4, table
	}
	for i := range s.Nodes6 {
		table = append(table, s.Nodes6[i][:])
	}
	return s.ID6, table
}

// targetFor returns a target that is random, or near or at ourselves or a contact.
func targetFor(r *rand.Rand, self router.ID, table [][]byte) router.ID {
	at := self
	if len(table) > 0 && r.IntN(2) == 0 {
		at = router.ID(table[r.IntN(len(table))])
	}
	switch r.IntN(4) {
	case 0:
		return at
	case 1:
		return sharing(r, at, r.IntN(160))
	default:
		return randomID(r)
	}
}

func TestClosestIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	sizes := []int{1280, 1280, 4096, 4096, 4096}
	for n := range 300 {
		sizes = append(sizes, n)
	}
	for n := 300; n < 1280; n += 49 {
		sizes = append(sizes, n)
	}
	for i, n := range sizes {
		s := randomSnapshot(r, 1+i%bpf.MaxBits, n)
		v, err := router.NewView(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []router.Family{router.IPv4, router.IPv6} {
			self, table := rows(s, f)
			for range 20 {
				target := targetFor(r, self, table)
				want := closestBySorting(s.Bits, self, target, table)
				if got := v.AppendClosest([]byte("x"), f, target); !bytes.Equal(got[1:], want) {
					t.Fatalf("%v, %d contacts, b = %d, self %v, target %v:\n got %x\nwant %x", f, len(table), s.Bits, self, target, got[1:], want)
				}
			}
		}
	}
}

func TestNewViewRefusesWhatHasNoAnswer(t *testing.T) {
	self := router.ID{0x80}
	contact := func(b byte) (c [26]byte) { c[19] = b; return c }
	for _, c := range []struct {
		why    string
		nodes  [][26]byte
		errHas string
	}{
		{"nine in a bucket", func() (n [][26]byte) {
			for i := range 9 {
				n = append(n, contact(byte(i)))
			}
			return n
		}(), "more than 8"},
		{"one ID twice", [][26]byte{contact(1), contact(2), contact(1)}, "two contacts"},
		{"ourselves", [][26]byte{{0: 0x80}}, "our own ID"},
	} {
		if _, err := router.NewView(&bpf.Snapshot{ID4: self, Nodes4: c.nodes}); err == nil || !strings.Contains(err.Error(), c.errHas) {
			t.Errorf("%s: error %v, want one with %q", c.why, err, c.errHas)
		}
		n6 := make([][38]byte, len(c.nodes))
		for i := range n6 {
			copy(n6[i][:], c.nodes[i][:])
		}
		if _, err := router.NewView(&bpf.Snapshot{ID6: self, Nodes6: n6}); err == nil || !strings.Contains(err.Error(), c.errHas) {
			t.Errorf("%s, IPv6: error %v, want one with %q", c.why, err, c.errHas)
		}
	}
}

func FuzzClosest(f *testing.F) {
	f.Add(uint64(1), uint16(200), []byte("mnopqrstuvwxyz123456"))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, target []byte) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := randomSnapshot(r, 1+int(seed%bpf.MaxBits), int(n)%1281)
		v, err := router.NewView(s)
		if err != nil {
			t.Fatal(err)
		}
		var id router.ID
		copy(id[:], target)
		for _, family := range []router.Family{router.IPv4, router.IPv6} {
			self, table := rows(s, family)
			want := closestBySorting(s.Bits, self, id, table)
			if got := v.AppendClosest(nil, family, id); !bytes.Equal(got, want) {
				t.Fatalf("%v: got %x, want %x", family, got, want)
			}
		}
	})
}

func BenchmarkAppendClosest(b *testing.B) {
	for _, n := range []int{8, 160, 1280} {
		b.Run(fmt.Sprintf("full buckets/%d", n), func(b *testing.B) {
			benchmarkClosest(b, fullSnapshot(rand.New(rand.NewPCG(2, 4)), n))
		})
	}
	b.Run("sparse buckets/800", func(b *testing.B) {
		benchmarkClosest(b, randomSnapshot(rand.New(rand.NewPCG(2, 4)), 1, 800))
	})
}

func benchmarkClosest(b *testing.B, s *bpf.Snapshot) {
	v, err := router.NewView(s)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(2, 6))
	targets := make([]router.ID, 1024)
	for i := range targets {
		targets[i] = randomID(r)
	}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		buf = v.AppendClosest(buf[:0], router.IPv4, targets[i%len(targets)])
		i++
	}
}

// fullSnapshot returns tables as they are in a large network: full buckets from the farthest on.
func fullSnapshot(r *rand.Rand, n int) *bpf.Snapshot {
	s := randomSnapshot(r, 1, 1280)
	self4, self6 := s.ID4, s.ID6
	s.Nodes4 = slices.DeleteFunc(s.Nodes4, func(c [26]byte) bool { return router.PrefixLen(self4, router.ID(c[:20])) >= n/8 })
	s.Nodes6 = slices.DeleteFunc(s.Nodes6, func(c [38]byte) bool { return router.PrefixLen(self6, router.ID(c[:20])) >= n/8 })
	return s
}

func BenchmarkNewView(b *testing.B) {
	s := fullSnapshot(rand.New(rand.NewPCG(2, 5)), 1280)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := router.NewView(s); err != nil {
			b.Fatal(err)
		}
	}
}
