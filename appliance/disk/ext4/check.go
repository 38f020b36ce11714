package ext4

import (
	"context"
	"fmt"
	"io"
	"math/bits"
)

// ErrJournal means that the journal holds changes that were not replayed: the kernel
// does that when it mounts, and until then nothing on disk need fit together.
var ErrJournal = fmt.Errorf("the journal must be replayed first")

// Check verifies a file system that is not mounted: every checksum of superblock,
// descriptors, bitmaps, inodes, extent trees and directories; that no two files share a
// block; that bitmaps and counts are what the inodes need; that every name leads to an
// inode and every inode has as many names as it says. Reading takes two blocks per group
// and the inode tables as far as they are in use.
//
// An error means that it could not check: it wraps one of [ReadSuperblock]'s,
// [ErrJournal], or ctx's.
func Check(ctx context.Context, r io.ReaderAt) (Problems, error) {
	c, err := inspect(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.problems, nil
}

// used is what the checker keeps of an inode in use.
type used struct {
	mode, links uint16
	seen        int // names found
}

type checker struct {
	v        *volume
	problems Problems
	blocks   bitmap // in use, by what the inodes and the layout say
	inodes   map[uint32]*used
	shared   map[uint64]bool // blocks of extended attributes, which inodes may share

	resize        uint64 // block of the resize inode
	resizeDamaged bool
}

// inspect walks everything and compares.
func inspect(ctx context.Context, r io.ReaderAt) (*checker, error) {
	v, err := open(r)
	if err != nil {
		return nil, err
	}
	if v.super.FeatureIncompat&incompatRecover != 0 {
		return nil, ErrJournal
	}
	c := &checker{v: v, blocks: newBitmap(v.super.blocks()), inodes: map[uint32]*used{}, shared: map[uint64]bool{}}
	c.layout()
	for g := range uint64(len(v.groups)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.table(g)
	}
	c.names()
	for g := range uint64(len(v.groups)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.compare(g)
	}
	return c, nil
}

func (c *checker) report(kind Kind, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{kind, fmt.Sprintf(format, args...)})
	}
}

// take marks blocks as used by an inode.
func (c *checker) take(start, n uint64, number uint32) {
	for b := start; b < start+n; b++ {
		if c.blocks.get(b) {
			c.report(Files, "block %d of inode %d is used twice", b, number)
			return
		}
		c.blocks.set(b)
	}
}

// layout marks what belongs to the file system itself.
func (c *checker) layout() {
	s := &c.v.super
	table := s.descBlocks() + uint64(s.ReservedGdtBlocks)
	if s.FeatureIncompat&incompatMetaBG != 0 {
		table = min(table, uint64(s.FirstMetaBg))
		for n := uint64(s.FirstMetaBg); n < s.descBlocks(); n++ {
			for _, copy := range []uint64{0, 1, descPerBlock - 1} {
				if n*descPerBlock+copy < s.groups() {
					c.blocks.set(c.v.descBlock(n, copy))
				}
			}
		}
	}
	for g := range s.groups() {
		if hasSuper(g) {
			c.blocks.setRange(g*blocksPerGroup, min(g*blocksPerGroup+1+table, s.blocks()))
		}
		d := &c.v.groups[g]
		for _, b := range []uint64{d.blockBitmap(), d.inodeBitmap()} {
			c.take(b, 1, 0)
		}
		c.take(d.inodeTable(), s.tableBlocks(), 0)
		if c.v.badGroups[g] {
			c.report(Groups, "descriptor of group %d: %v", g, ErrChecksum)
		}
	}
}

// table walks the inode table of a group.
func (c *checker) table(g uint64) {
	s, d := &c.v.super, &c.v.groups[g]
	bad := c.v.badGroups[g]
	n := s.InodesPerGroup
	if !bad {
		n -= uint32(d.ItableUnused)
		if d.Flags&groupInodeUninit != 0 {
			return
		}
	}
	for first := uint32(0); first < n; first += inodesPerBlock {
		b, err := c.v.block(d.inodeTable() + uint64(first/inodesPerBlock))
		if err != nil {
			c.report(Files, "inode table of group %d: %v", g, err)
			continue
		}
		for k := range min(inodesPerBlock, n-first) {
			number := uint32(g)*s.InodesPerGroup + first + k + 1
			i, err := c.v.parseInode(b[k*inodeSize:(k+1)*inodeSize], number)
			switch {
			case err != nil && bad:
				// The table may never have been written so far, and the descriptor that knew is lost.
			case err != nil:
				c.report(Files, "%v", err)
			case i.Links > 0:
				c.inode(&i, number)
			}
		}
	}
}

// inode marks an inode's blocks.
func (c *checker) inode(i *inode, number uint32) {
	c.inodes[number] = &used{mode: i.Mode, links: i.Links}
	if acl := uint64(i.FileACLHi)<<32 | uint64(i.FileACLLo); acl != 0 && !c.shared[acl] {
		if acl >= c.v.super.blocks() {
			c.report(Files, "inode %d: attributes: %v", number, ErrGeometry)
		} else {
			c.shared[acl] = true
			c.take(acl, 1, number)
		}
	}
	kind := i.Mode & modeType
	switch {
	case number == inoResize:
		c.resizeInode(i)
		return
	case kind != modeDir && kind != modeRegular && kind != modeSymlink:
		return // a device, socket or pipe
	case kind == modeSymlink && i.Flags&inodeExtents == 0 && i.size() < 60:
		return // the target is in the inode
	case i.Flags&inodeInlineData != 0:
		return
	}
	all, err := c.v.extents(i, number, func(b uint64) { c.take(b, 1, number) })
	if err != nil {
		c.report(Files, "%v", err)
		return
	}
	for _, x := range all {
		c.take(x.start, x.count, number)
	}
}

// compare checks a group's bitmaps and counts against what the walk found.
func (c *checker) compare(g uint64) {
	d := &c.v.groups[g]
	if c.v.badGroups[g] {
		return // already reported
	}
	want := c.describe(g)
	if d.FreeBlocksLo != want.FreeBlocksLo || d.FreeInodesLo != want.FreeInodesLo || d.UsedDirsLo != want.UsedDirsLo {
		c.report(Groups, "group %d counts %d blocks and %d inodes free and %d directories; there are %d, %d and %d", g,
			d.FreeBlocksLo, d.FreeInodesLo, d.UsedDirsLo, want.FreeBlocksLo, want.FreeInodesLo, want.UsedDirsLo)
	}
	if d.Flags&groupBlockUninit == 0 {
		c.bitmap(g, "block", d.blockBitmap(), c.blockBitmap(g), blockSize,
			uint32(d.BlockBitmapCsumHi)<<16|uint32(d.BlockBitmapCsumLo))
	}
	if d.Flags&groupInodeUninit == 0 {
		c.bitmap(g, "inode", d.inodeBitmap(), c.inodeBitmap(g), int(c.v.super.InodesPerGroup/8),
			uint32(d.InodeBitmapCsumHi)<<16|uint32(d.InodeBitmapCsumLo))
	}
}

// bitmap checks the first n bytes of a bitmap on disk.
func (c *checker) bitmap(g uint64, what string, at uint64, want []byte, n int, sum uint32) {
	b, err := c.v.block(at)
	switch {
	case err != nil:
		c.report(Groups, "%s bitmap of group %d: %v", what, g, err)
		return
	case crc(c.v.seed, b[:n]) != sum:
		c.report(Groups, "%s bitmap of group %d: %v", what, g, ErrChecksum)
		return
	}
	differ := 0
	for k := range n {
		differ += bits.OnesCount8(b[k] ^ want[k])
	}
	if differ > 0 {
		c.report(Groups, "%s bitmap of group %d is wrong in %d places", what, g, differ)
	}
}
