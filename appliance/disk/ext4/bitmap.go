package ext4

import "math/bits"

// bitmap has one bit per block of the file system: 32 MiB for 1 TiB.
type bitmap []byte

func newBitmap(n uint64) bitmap { return make(bitmap, (n+7)/8) }

func (b bitmap) get(n uint64) bool { return b[n/8]&(1<<(n%8)) != 0 }
func (b bitmap) set(n uint64)      { b[n/8] |= 1 << (n % 8) }

func (b bitmap) setRange(from, to uint64) { setBits(b, from, to) }

func count(b []byte) int {
	n := 0
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// blockBitmap gives a group's block bitmap as it should be.
func (c *checker) blockBitmap(g uint64) []byte {
	b := make([]byte, blockSize)
	copy(b, c.blocks[g*blockSize:min(uint64(len(c.blocks)), (g+1)*blockSize)])
	setBits(b, c.v.super.blocksIn(g), blocksPerGroup)
	return b
}

// inodeBitmap gives a group's inode bitmap as it should be.
func (c *checker) inodeBitmap(g uint64) []byte {
	b := make([]byte, blockSize)
	per := uint64(c.v.super.InodesPerGroup)
	for n := range per {
		number := uint32(g*per + n + 1)
		if c.inodes[number] != nil || number < c.v.super.FirstIno {
			b[n/8] |= 1 << (n % 8)
		}
	}
	setBits(b, per, blocksPerGroup)
	return b
}

// describe gives the descriptor that fits what was found in a group.
func (c *checker) describe(g uint64) groupDesc {
	d := c.v.groups[g]
	blocks, inodes := c.blockBitmap(g), c.inodeBitmap(g)
	d.setBlockBitmapCsum(c.v.seed, blocks)
	d.setInodeBitmapCsum(c.v.seed, inodes[:c.v.super.InodesPerGroup/8])
	d.FreeBlocksLo = uint16(blocksPerGroup - count(blocks))
	d.FreeInodesLo = uint16(blocksPerGroup - count(inodes))
	d.UsedDirsLo = 0
	per := c.v.super.InodesPerGroup
	for n := range per {
		if u := c.inodes[uint32(g)*per+n+1]; u != nil && u.mode&modeType == modeDir {
			d.UsedDirsLo++
		}
	}
	return d
}
