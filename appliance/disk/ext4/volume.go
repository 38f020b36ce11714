package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Device holds a file system from its byte 0 on.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when everything written is on stable storage.
	Sync() error
}

// A volume is a file system opened for reading.
type volume struct {
	r      io.ReaderAt
	super  superblock
	seed   uint32
	groups []groupDesc
	// badGroups holds the groups whose descriptor had a wrong checksum and whose places were
	// taken from a copy; nothing else in those descriptors is known.
	badGroups map[uint64]bool
}

// open reads the primary superblock and the group descriptors. A descriptor with a wrong
// checksum is replaced by the places that a copy names.
func open(r io.ReaderAt) (*volume, error) {
	s, err := ReadSuperblock(r, 0)
	if err != nil {
		return nil, err
	}
	v := &volume{r: r, super: s.raw, seed: s.raw.seed(), badGroups: map[uint64]bool{}}
	v.groups = make([]groupDesc, v.super.groups())
	for n := range v.super.descBlocks() {
		// A block that cannot be read is as good as a damaged one.
		b, _ := v.block(v.descBlock(n, 0))
		for k := range uint64(descPerBlock) {
			g := n*descPerBlock + k
			if g >= uint64(len(v.groups)) {
				break
			}
			d, ok := v.parseDesc(b, g)
			if !ok {
				if d, ok = v.descCopy(n, g); !ok {
					return nil, fmt.Errorf("descriptor of group %d and its copies: %w", g, ErrChecksum)
				}
				d.Flags, d.ItableUnused = 0, 0
				v.badGroups[g] = true
			}
			v.groups[g] = d
		}
	}
	return v, nil
}

// parseDesc takes group g's descriptor out of its block.
func (v *volume) parseDesc(b []byte, g uint64) (groupDesc, bool) {
	var d groupDesc
	if b == nil {
		return d, false
	}
	e := b[g%descPerBlock*descSize:]
	if _, err := binary.Decode(e[:descSize], binary.LittleEndian, &d); err != nil {
		return d, false
	}
	sum := d.Checksum
	d.encode(v.seed, g)
	last := v.super.blocks()
	return d, d.Checksum == sum && d.blockBitmap() < last && d.inodeBitmap() < last &&
		d.inodeTable() > 0 && d.inodeTable()+v.super.tableBlocks() <= last && uint32(d.ItableUnused) <= v.super.InodesPerGroup
}

// descBlock is the place of the nth block of descriptors. copy 0 is the primary; the
// others are in copies[copy-1].
func (v *volume) descBlock(n uint64, group uint64) uint64 {
	if v.super.FeatureIncompat&incompatMetaBG != 0 && n >= uint64(v.super.FirstMetaBg) {
		g := n*descPerBlock + group
		at := g * blocksPerGroup
		if hasSuper(g) {
			at++
		}
		return at
	}
	return group*blocksPerGroup + 1 + n
}

// descCopies are the groups, counted as descBlock does, that have copies of the nth block.
func (v *volume) descCopies(n uint64) []uint64 {
	if v.super.FeatureIncompat&incompatMetaBG != 0 && n >= uint64(v.super.FirstMetaBg) {
		return []uint64{1, descPerBlock - 1}
	}
	return v.super.copies()
}

// descCopy finds a copy of a descriptor that is intact.
func (v *volume) descCopy(n, g uint64) (groupDesc, bool) {
	for _, c := range v.descCopies(n) {
		if b, err := v.block(v.descBlock(n, c)); err == nil {
			if d, ok := v.parseDesc(b, g); ok {
				return d, true
			}
		}
	}
	return groupDesc{}, false
}

// block reads a block.
func (v *volume) block(n uint64) ([]byte, error) {
	if n >= v.super.blocks() {
		return nil, fmt.Errorf("block %d: %w", n, ErrGeometry)
	}
	b := make([]byte, blockSize)
	if _, err := v.r.ReadAt(b, int64(n)*blockSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("block %d: %w", n, err)
	}
	return b, nil
}

// inode reads and checks an inode. A block of zeros is an inode that was never used.
func (v *volume) inode(number uint32) (inode, error) {
	var i inode
	if number == 0 || number > v.super.InodesCount {
		return i, fmt.Errorf("inode %d: %w", number, ErrGeometry)
	}
	g, n := (number-1)/v.super.InodesPerGroup, (number-1)%v.super.InodesPerGroup
	b := make([]byte, inodeSize)
	if _, err := v.r.ReadAt(b, int64(v.groups[g].inodeTable())*blockSize+int64(n)*inodeSize); err != nil {
		return i, fmt.Errorf("inode %d: %w", number, err)
	}
	return v.parseInode(b, number)
}

func (v *volume) parseInode(b []byte, number uint32) (inode, error) {
	var i inode
	if bytes.Count(b, []byte{0}) == len(b) {
		return i, nil
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &i); err != nil {
		return i, err
	}
	sum := uint32(i.ChecksumHi)<<16 | uint32(i.ChecksumLo)
	mask := ^uint32(0)
	c := crc(crc(inodeSeed(v.seed, number, i.Generation), b[:0x7c]), []byte{0, 0})
	if i.ExtraIsize >= 4 {
		c = crc(crc(crc(c, b[0x7e:0x82]), []byte{0, 0}), b[0x84:])
	} else { // no room for the upper half
		c = crc(c, b[0x7e:])
		mask = 0xffff
	}
	if sum&mask != c&mask {
		return i, fmt.Errorf("inode %d: %w", number, ErrChecksum)
	}
	return i, nil
}
