package ext4

import (
	"encoding/binary"
	"fmt"
)

// directory lists the entries of a directory, among them "." and "..". What could be read
// is returned together with the first error.
func (v *volume) directory(i *inode, number uint32) ([]dirEntry, error) {
	if i.Flags&inodeInlineData != 0 {
		return nil, fmt.Errorf("directory %d: %w: inline data", number, ErrUnsupported)
	}
	all, err := v.extents(i, number, nil)
	if err != nil {
		return nil, err
	}
	seed := inodeSeed(v.seed, number, i.Generation)
	var list []dirEntry
	var first error
	for _, x := range all {
		for n := range x.count {
			b, err := v.block(x.start + n)
			if err == nil {
				var part []dirEntry
				part, err = v.directoryBlock(b, seed, i.Flags&inodeIndex != 0)
				list = append(list, part...)
			}
			if err != nil && first == nil {
				first = fmt.Errorf("directory %d: %w", number, err)
			}
		}
	}
	return list, first
}

// directoryBlock takes the entries of one block, whose checksum must be right.
func (v *volume) directoryBlock(b []byte, seed uint32, indexed bool) ([]dirEntry, error) {
	le := binary.LittleEndian
	const end = blockSize - dirTailSize
	// An index block that was a leaf before still has the look of a leaf's tail.
	leaf := le.Uint32(b[end:]) == 0 && le.Uint16(b[end+4:]) == dirTailSize && b[end+7] == dirTailKind &&
		le.Uint32(b[end+8:]) == crc(seed, b[:end])
	if !leaf && (!indexed || !indexSum(b, seed)) {
		return nil, ErrChecksum
	}
	var list []dirEntry
	for at := 0; at+8 <= blockSize; {
		length, name := int(le.Uint16(b[at+4:])), int(b[at+6])
		if length < 8 || length%4 != 0 || at+length > blockSize || 8+name > length {
			return list, ErrGeometry
		}
		if e := (dirEntry{le.Uint32(b[at:]), b[at+7], string(b[at+8 : at+8+name])}); e.inode != 0 {
			list = append(list, e)
		}
		at += length
	}
	return list, nil
}

// indexSum verifies the checksum of a block of a hashed directory's index.
func indexSum(b []byte, seed uint32) bool {
	le := binary.LittleEndian
	at := 8
	if le.Uint16(b[4:]) != blockSize { // the root, behind "." and ".."
		at = 32
	}
	limit, count := int(le.Uint16(b[at:])), int(le.Uint16(b[at+2:]))
	tail := at + 8*limit
	if count > limit || tail+8 > blockSize {
		return false
	}
	c := crc(crc(seed, b[:at+8*count]), b[tail:tail+4])
	return le.Uint32(b[tail+4:]) == crc(c, []byte{0, 0, 0, 0})
}
