package ext4

import (
	"bytes"
	"encoding/binary"
)

// The resize inode owns the blocks behind the group descriptors, in group 0 and in every
// copy, so that nothing else takes them before the file system grows. Its one
// double-indirect block lists the reserved blocks of group 0; each of these lists its
// counterparts in the other groups that have copies (lib/ext2fs/res_gdt.c).

// resizeInode is inode 7.
func (f *formatter) resizeInode() inode {
	const perBlock = blockSize / 4
	i := inode{Mode: modeRegular | 0o600, Links: 1}
	binary.LittleEndian.PutUint32(i.Block[13*4:], uint32(f.resize))
	i.setSize((perBlock*perBlock + perBlock + 12) * blockSize)
	i.BlocksLo = uint32(1+reservedBlocks*(1+len(f.super.copies()))) * (blockSize / 512)
	return i
}

// copies lists the groups other than 0 that have a copy of the superblock.
func (s *superblock) copies() []uint64 {
	var list []uint64
	for g := uint64(1); g < s.groups(); g++ {
		if hasSuper(g) {
			list = append(list, g)
		}
	}
	return list
}

// resizeBlocks gives the double-indirect block, and the reserved blocks of group 0, which follow the
// descriptors.
func (s *superblock) resizeBlocks() (double, reserved []byte) {
	first, n := 1+s.descBlocks(), uint64(s.ReservedGdtBlocks)
	double = make([]byte, blockSize)
	reserved = make([]byte, n*blockSize)
	copies := s.copies()
	for k := range n {
		binary.LittleEndian.PutUint32(double[4*(s.descBlocks()+k)%blockSize:], uint32(first+k))
		for c, g := range copies {
			binary.LittleEndian.PutUint32(reserved[k*blockSize+4*uint64(c):], uint32(first+k+g*blocksPerGroup))
		}
	}
	return double, reserved
}

// resizeInode marks the one block of the resize inode that layout did not, and checks the others.
func (c *checker) resizeInode(i *inode) {
	s := &c.v.super
	if s.FeatureCompat&compatResizeInode == 0 {
		return
	}
	c.resize = uint64(binary.LittleEndian.Uint32(i.Block[13*4:]))
	if c.resize == 0 || c.resize >= s.blocks() {
		c.report(Files, "resize inode: %v", ErrGeometry)
		return
	}
	c.take(c.resize, 1, inoResize)
	double, reserved := s.resizeBlocks()
	b := make([]byte, len(reserved))
	there, err := c.v.block(c.resize)
	if err == nil {
		_, err = c.v.r.ReadAt(b, int64(1+s.descBlocks())*blockSize)
	}
	if err != nil || !bytes.Equal(there, double) || !bytes.Equal(b, reserved) {
		c.report(Groups, "blocks reserved for more groups are damaged")
		c.resizeDamaged = true
	}
}

// rebuildResize writes them anew.
func (c *checker) rebuildResize(d Device) error {
	if !c.resizeDamaged {
		return nil
	}
	double, reserved := c.v.super.resizeBlocks()
	if _, err := d.WriteAt(reserved, int64(1+c.v.super.descBlocks())*blockSize); err != nil {
		return err
	}
	_, err := d.WriteAt(double, int64(c.resize)*blockSize)
	return err
}
