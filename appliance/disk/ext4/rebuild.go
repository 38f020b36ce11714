package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// DamagedError means that files or directories are damaged, so that what the bitmaps
// should be is not known.
type DamagedError struct{ Problems Problems }

func (e *DamagedError) Error() string { return "damaged files or directories: " + e.Problems.String() }

// RebuildGroups makes the group descriptors, bitmaps and counts anew from the inodes of a
// file system that is not mounted. It changes nothing and returns a [*DamagedError] unless all
// inodes and directories are sound. Other errors are those of [Check], or come from d.
// Done again after an interruption, it ends the same.
func RebuildGroups(ctx context.Context, d Device) error {
	c, err := inspect(ctx, d)
	if err != nil {
		return err
	}
	if len(c.problems) > 0 && c.problems.Worst() == Files {
		return &DamagedError{c.problems}
	}
	return c.rebuild(d)
}

// rebuild writes bitmaps, then the descriptors that vouch for them, then the totals.
func (c *checker) rebuild(d Device) error {
	s := &c.v.super
	freeBlocks, freeInodes := uint64(0), uint32(0)
	for g := range c.v.groups {
		desc, err := c.rebuildBitmaps(d, uint64(g))
		if err != nil {
			return fmt.Errorf("rebuild group %d: %w", g, err)
		}
		c.v.groups[g] = desc
		freeBlocks += uint64(desc.FreeBlocksLo)
		freeInodes += uint32(desc.FreeInodesLo)
	}
	if err := errors.Join(c.rebuildResize(d), d.Sync()); err != nil {
		return fmt.Errorf("rebuild bitmaps: %w", err)
	}
	for n := range s.descBlocks() {
		var b bytes.Buffer
		for g := n * descPerBlock; g < min((n+1)*descPerBlock, s.groups()); g++ {
			b.Write(c.v.groups[g].encode(c.v.seed, g))
		}
		b.Write(make([]byte, blockSize-b.Len()))
		if _, err := d.WriteAt(b.Bytes(), int64(c.v.descBlock(n, 0))*blockSize); err != nil {
			return fmt.Errorf("rebuild descriptors: %w", err)
		}
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("rebuild descriptors: %w", err)
	}
	s.FreeBlocksCountLo, s.FreeBlocksCountHi = uint32(freeBlocks), uint32(freeBlocks>>32)
	s.FreeInodesCount = freeInodes
	s.LastOrphan = 0
	return writeSuperblock(d, s)
}

// rebuildBitmaps writes a group's bitmaps, unless they were never written and still need
// not be, and gives the descriptor that fits.
func (c *checker) rebuildBitmaps(d Device, g uint64) (groupDesc, error) {
	old, desc := c.v.groups[g], c.describe(g)
	if c.v.badGroups[g] {
		desc.Flags = 0
		desc.ItableUnused = uint16(c.unusedInodes(g))
	}
	if desc.Flags&groupBlockUninit != 0 && desc.FreeBlocksLo == old.FreeBlocksLo {
		desc.BlockBitmapCsumLo, desc.BlockBitmapCsumHi = old.BlockBitmapCsumLo, old.BlockBitmapCsumHi
	} else {
		desc.Flags &^= groupBlockUninit
		if _, err := d.WriteAt(c.blockBitmap(g), int64(desc.blockBitmap())*blockSize); err != nil {
			return desc, err
		}
	}
	if desc.Flags&groupInodeUninit != 0 {
		desc.InodeBitmapCsumLo, desc.InodeBitmapCsumHi = old.InodeBitmapCsumLo, old.InodeBitmapCsumHi
		return desc, nil
	}
	_, err := d.WriteAt(c.inodeBitmap(g), int64(desc.inodeBitmap())*blockSize)
	return desc, err
}

// unusedInodes is the number of inodes at the end of a group's table that are not in use.
func (c *checker) unusedInodes(g uint64) uint32 {
	per := c.v.super.InodesPerGroup
	for n := per; n > 0; n-- {
		number := uint32(g)*per + n
		if c.inodes[number] != nil || number < c.v.super.FirstIno {
			return per - n
		}
	}
	return per
}

// PatchDescriptors replaces group descriptors with a wrong checksum by ones that fit the
// bitmaps as they are, so that the kernel mounts and replays the journal, which may hold the
// right ones. The file system must be checked then.
func PatchDescriptors(d Device) error {
	v, err := open(d)
	if err != nil {
		return err
	}
	for g := range v.badGroups {
		desc := &v.groups[g]
		blocks, err := v.block(desc.blockBitmap())
		if err != nil {
			return err
		}
		inodes, err := v.block(desc.inodeBitmap())
		if err != nil {
			return err
		}
		inodes = inodes[:v.super.InodesPerGroup/8]
		desc.setBlockBitmapCsum(v.seed, blocks)
		desc.setInodeBitmapCsum(v.seed, inodes)
		desc.FreeBlocksLo = uint16(blocksPerGroup - count(blocks))
		desc.FreeInodesLo = uint16(int(v.super.InodesPerGroup) - count(inodes))
		off := int64(v.descBlock(g/descPerBlock, 0))*blockSize + int64(g%descPerBlock)*descSize
		if _, err := d.WriteAt(desc.encode(v.seed, g), off); err != nil {
			return fmt.Errorf("write descriptor of group %d: %w", g, err)
		}
	}
	return d.Sync()
}
