package ext4

import (
	"bytes"
	"encoding/binary"
)

func encode(v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, v) // a buffer does not fail
	return b.Bytes()
}

// encode gives the descriptor's bytes, with its checksum.
func (d *groupDesc) encode(seed uint32, group uint64) []byte {
	d.Checksum = 0
	d.Checksum = uint16(crc(crc32le(seed, uint32(group)), encode(d)))
	return encode(d)
}

func (d *groupDesc) setBlockBitmapCsum(seed uint32, bitmap []byte) {
	c := crc(seed, bitmap)
	d.BlockBitmapCsumLo, d.BlockBitmapCsumHi = uint16(c), uint16(c>>16)
}

// setInodeBitmapCsum takes the part of the bitmap that has inodes.
func (d *groupDesc) setInodeBitmapCsum(seed uint32, bitmap []byte) {
	c := crc(seed, bitmap)
	d.InodeBitmapCsumLo, d.InodeBitmapCsumHi = uint16(c), uint16(c>>16)
}

func (d *groupDesc) setPlaces(blockBitmap, inodeBitmap, inodeTable uint64) {
	d.BlockBitmapLo, d.BlockBitmapHi = uint32(blockBitmap), uint32(blockBitmap>>32)
	d.InodeBitmapLo, d.InodeBitmapHi = uint32(inodeBitmap), uint32(inodeBitmap>>32)
	d.InodeTableLo, d.InodeTableHi = uint32(inodeTable), uint32(inodeTable>>32)
}

func (d *groupDesc) blockBitmap() uint64 {
	return uint64(d.BlockBitmapHi)<<32 | uint64(d.BlockBitmapLo)
}
func (d *groupDesc) inodeBitmap() uint64 {
	return uint64(d.InodeBitmapHi)<<32 | uint64(d.InodeBitmapLo)
}
func (d *groupDesc) inodeTable() uint64 { return uint64(d.InodeTableHi)<<32 | uint64(d.InodeTableLo) }

// encode gives the inode's bytes, with its checksum.
func (i *inode) encode(seed, number uint32) []byte {
	i.ExtraIsize = 32
	i.ChecksumLo, i.ChecksumHi = 0, 0
	c := crc(inodeSeed(seed, number, i.Generation), encode(i))
	i.ChecksumLo, i.ChecksumHi = uint16(c), uint16(c>>16)
	return encode(i)
}

// inodeSeed begins the checksums of what belongs to an inode.
func inodeSeed(seed, number, generation uint32) uint32 {
	return crc32le(crc32le(seed, number), generation)
}

// setExtent maps an inode's first n blocks to those from start on.
func (i *inode) setExtent(start uint64, n uint16) {
	i.Flags |= inodeExtents
	le := binary.LittleEndian
	le.PutUint16(i.Block[0:], extentMagic)
	le.PutUint16(i.Block[2:], 1) // entries
	le.PutUint16(i.Block[4:], 4) // room
	le.PutUint16(i.Block[16:], n)
	le.PutUint16(i.Block[18:], uint16(start>>32))
	le.PutUint32(i.Block[20:], uint32(start))
	i.setSize(uint64(n) * blockSize)
	i.BlocksLo = uint32(n) * (blockSize / 512)
}

func (i *inode) setSize(n uint64) { i.SizeLo, i.SizeHi = uint32(n), uint32(n>>32) }

// A dirEntry is a name in a directory.
type dirEntry struct {
	inode uint32
	kind  uint8
	name  string
}

const (
	dirTailSize = 12
	dirTailKind = 0xde
	kindDir     = 2
)

// directoryBlock gives a directory block with entries that fit in it.
func directoryBlock(seed uint32, entries ...dirEntry) []byte {
	le := binary.LittleEndian
	b := make([]byte, blockSize)
	if len(entries) == 0 {
		entries = []dirEntry{{}}
	}
	at := 0
	for n, e := range entries {
		length := (8 + len(e.name) + 3) &^ 3
		if n == len(entries)-1 {
			length = blockSize - dirTailSize - at
		}
		le.PutUint32(b[at:], e.inode)
		le.PutUint16(b[at+4:], uint16(length))
		b[at+6], b[at+7] = uint8(len(e.name)), e.kind
		copy(b[at+8:], e.name)
		at += length
	}
	le.PutUint16(b[at+4:], dirTailSize)
	b[at+7] = dirTailKind
	le.PutUint32(b[at+8:], crc(seed, b[:at]))
	return b
}

const extentMagic = 0xf30a
