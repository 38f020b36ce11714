package journal

import (
	"cmp"
	"slices"
)

// ring is the newest lines, in order, up to a number of bytes. Somebody else sees to it that one goroutine uses it.
type ring struct {
	max, bytes int
	lines      []Line
	head       int // of lines, where what is kept begins
	forgotten  uint64
}

// add keeps a line, and forgets what there is no room for. The newest is always kept.
func (r *ring) add(l Line) {
	r.lines = append(r.lines, l)
	r.bytes += l.size()
	for r.bytes > r.max && r.head < len(r.lines)-1 {
		r.bytes -= r.lines[r.head].size()
		r.lines[r.head] = Line{}
		r.head++
		r.forgotten++
	}
	if r.head > len(r.lines)/2 {
		n := copy(r.lines, r.lines[r.head:])
		clear(r.lines[n:])
		r.lines, r.head = r.lines[:n], 0
	}
}

func (r *ring) kept() []Line { return r.lines[r.head:] }

// after gives the lines behind a number.
func (r *ring) after(seq uint64) []Line {
	kept := r.kept()
	i, _ := slices.BinarySearchFunc(kept, seq+1, func(l Line, s uint64) int { return cmp.Compare(l.Seq, s) })
	return kept[i:]
}
