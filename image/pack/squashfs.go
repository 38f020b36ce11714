package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The parts of the squashfs format (4.0) that gokrazy's writer uses. It leaves inodes uncompressed, which is why times
// can be changed in place.
const (
	squashMagic         = 0x73717368
	squashSuperblock    = 96
	squashUncompressed  = 0x8000
	squashMetadataBlock = 8192

	squashDir, squashFile, squashSymlink, squashLongDir = 1, 2, 3, 8
)

var errSquash = errors.New("not a squashfs as gokrazy writes it")

// squashSize returns the length in bytes of the squashfs file system that begins at off.
func squashSize(r io.ReaderAt, off int64) (int64, error) {
	var sb [squashSuperblock]byte
	if _, err := r.ReadAt(sb[:], off); err != nil {
		return 0, fmt.Errorf("squashfs: %w", err)
	}
	if binary.LittleEndian.Uint32(sb[:]) != squashMagic {
		return 0, errSquash
	}
	return int64(binary.LittleEndian.Uint64(sb[40:])), nil
}

// setSquashTimes gives a squashfs file system and every file in it the same time.
func setSquashTimes(fs []byte, t time.Time) error {
	if len(fs) < squashSuperblock || binary.LittleEndian.Uint32(fs) != squashMagic {
		return errSquash
	}
	sec := uint32(t.Unix())
	binary.LittleEndian.PutUint32(fs[8:], sec)
	count := binary.LittleEndian.Uint32(fs[4:])
	blockSize := binary.LittleEndian.Uint32(fs[12:])
	start, end := binary.LittleEndian.Uint64(fs[64:]), binary.LittleEndian.Uint64(fs[72:])
	if blockSize == 0 || start > end || end > uint64(len(fs)) {
		return errSquash
	}
	// Inodes may cross the borders of metadata blocks: gather, change, put back.
	table := fs[start:end]
	var blocks [][]byte
	for len(table) > 0 {
		if len(table) < 2 {
			return errSquash
		}
		head := binary.LittleEndian.Uint16(table)
		n := int(head &^ squashUncompressed)
		if head&squashUncompressed == 0 || n > squashMetadataBlock || len(table) < 2+n {
			return errSquash
		}
		blocks, table = append(blocks, table[2:2+n]), table[2+n:]
	}
	inodes := bytes.Join(blocks, nil)
	for p := inodes; count > 0; count-- {
		n, err := inodeSize(p, blockSize)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(p[8:], sec)
		p = p[n:]
	}
	for _, b := range blocks {
		inodes = inodes[copy(b, inodes):]
	}
	return nil
}

// inodeSize returns how long the inode at the beginning of p is.
func inodeSize(p []byte, blockSize uint32) (int, error) {
	if len(p) < 24 {
		return 0, errSquash
	}
	n := 0
	switch kind := binary.LittleEndian.Uint16(p); {
	case kind == squashSymlink:
		n = 24 + int(binary.LittleEndian.Uint32(p[20:]))
	case kind == squashDir:
		n = 32
	case kind == squashLongDir:
		n = 40
	case kind == squashFile && len(p) >= 32:
		n = 32 + 4*int((uint64(binary.LittleEndian.Uint32(p[28:]))+uint64(blockSize)-1)/uint64(blockSize))
	}
	if n == 0 || n > len(p) {
		return 0, errSquash
	}
	return n, nil
}
