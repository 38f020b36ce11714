package ext4

import (
	"encoding/binary"
	"fmt"
)

// An extent maps a run of a file's blocks to blocks of the device.
type extent struct {
	file, start, count uint64
	unwritten          bool // reads as zeros
}

// maxDepth of an extent tree: the kernel's own limit.
const maxDepth = 5

// extents lists an inode's extents in the file's order; visit, if not nil, is told
// of every block that the tree itself takes.
func (v *volume) extents(i *inode, number uint32, visit func(block uint64)) ([]extent, error) {
	if i.Flags&inodeExtents == 0 {
		return nil, fmt.Errorf("inode %d: %w: it has no extents", number, ErrUnsupported)
	}
	w := extentWalk{v: v, seed: inodeSeed(v.seed, number, i.Generation), visit: visit, number: number}
	if err := w.node(i.Block[:], maxDepth+1); err != nil {
		return nil, err
	}
	return w.list, nil
}

type extentWalk struct {
	v      *volume
	seed   uint32
	number uint32
	visit  func(uint64)
	list   []extent
	blocks int
	next   uint64 // first block of the file that has not been mapped
}

// node takes a node of a depth less than limit.
func (w *extentWalk) node(b []byte, limit uint16) error {
	le := binary.LittleEndian
	n, room, depth := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), le.Uint16(b[6:])
	if le.Uint16(b) != extentMagic || n > room || 12+12*room > len(b) || depth >= limit ||
		limit <= maxDepth && depth != limit-1 {
		return fmt.Errorf("inode %d: extent tree: %w", w.number, ErrGeometry)
	}
	for k := range n {
		e := b[12+12*k:]
		if depth > 0 {
			if err := w.child(uint64(le.Uint32(e[4:]))|uint64(le.Uint16(e[8:]))<<32, depth); err != nil {
				return err
			}
			continue
		}
		x := extent{file: uint64(le.Uint32(e)), count: uint64(le.Uint16(e[4:])),
			start: uint64(le.Uint16(e[6:]))<<32 | uint64(le.Uint32(e[8:]))}
		if x.count > 1<<15 {
			x.count, x.unwritten = x.count-1<<15, true
		}
		if x.count == 0 || x.file < w.next || x.start == 0 || x.start+x.count > w.v.super.blocks() {
			return fmt.Errorf("inode %d: extent of %d blocks at %d: %w", w.number, x.count, x.start, ErrGeometry)
		}
		w.next = x.file + x.count
		w.list = append(w.list, x)
	}
	return nil
}

// child takes a node in a block of its own.
func (w *extentWalk) child(block uint64, depth uint16) error {
	if w.blocks++; uint64(w.blocks) > w.v.super.blocks() {
		return fmt.Errorf("inode %d: extent tree: %w", w.number, ErrGeometry)
	}
	b, err := w.v.block(block)
	if err != nil {
		return fmt.Errorf("inode %d: extent tree: %w", w.number, err)
	}
	tail := 12 + 12*int(binary.LittleEndian.Uint16(b[4:]))
	if tail+4 > len(b) {
		return fmt.Errorf("inode %d: extent tree: %w", w.number, ErrGeometry)
	}
	if binary.LittleEndian.Uint32(b[tail:]) != crc(w.seed, b[:tail]) {
		return fmt.Errorf("inode %d: extent tree: %w", w.number, ErrChecksum)
	}
	if w.visit != nil {
		w.visit(block)
	}
	return w.node(b, depth)
}
