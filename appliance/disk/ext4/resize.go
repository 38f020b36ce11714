package ext4

import "encoding/binary"

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
	i.BlocksLo = uint32(1+reservedBlocks*(1+len(f.copies()))) * (blockSize / 512)
	return i
}

// copies lists the groups other than 0 that have a copy of the superblock.
func (f *formatter) copies() []uint64 {
	var list []uint64
	for g := uint64(1); g < f.super.groups(); g++ {
		if hasSuper(g) {
			list = append(list, g)
		}
	}
	return list
}

// resizeBlocks writes the blocks that the resize inode refers to.
func (f *formatter) resizeBlocks() error {
	first := 1 + f.super.descBlocks()
	double := make([]byte, blockSize)
	reserved := make([]byte, reservedBlocks*blockSize)
	copies := f.copies()
	for n := range uint64(reservedBlocks) {
		binary.LittleEndian.PutUint32(double[4*(f.super.descBlocks()+n)%blockSize:], uint32(first+n))
		for k, g := range copies {
			binary.LittleEndian.PutUint32(reserved[n*blockSize+4*uint64(k):], uint32(first+n+g*blocksPerGroup))
		}
	}
	if err := f.put(f.resize, double); err != nil {
		return err
	}
	return f.put(first, reserved)
}
