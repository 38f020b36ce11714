// Package fat reads and reshapes the FAT16 file systems that gokrazy's packer writes: one table, no free space, every
// file in one piece.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	sector     = 512
	entrySize  = 32 // bytes of a directory entry
	endOfChain = 0xfff8
	maxCluster = 65524

	attrVolume    = 0x08
	attrDirectory = 0x10
	attrLongName  = 0x0f
)

// ErrFormat means that a file system is not of the kind that this package is for, or damaged.
var ErrFormat = errors.New("not a FAT16 file system as gokrazy writes it")

// FS is a file system in memory, from its boot sector to the last sector in use. Changes through this package's functions
// change these bytes.
type FS []byte

// Read reads the file system that begins at an offset, in bytes.
func Read(r io.ReaderAt, off int64) (FS, error) {
	first := make(FS, sector)
	if _, err := r.ReadAt(first, off); err != nil {
		return nil, err
	}
	fs := make(FS, int64(binary.LittleEndian.Uint32(first[32:]))*sector)
	if _, err := r.ReadAt(fs, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, err := fs.layout()
	return fs, err
}

// layout is where the parts of a file system are, in sectors.
type layout struct {
	perCluster, reserved, table, root, total int
}

func (l layout) rootStart() int { return l.reserved + l.table }
func (l layout) dataStart() int { return l.rootStart() + l.root }

// layout reads the boot sector.
func (fs FS) layout() (layout, error) {
	if len(fs) < sector || fs[510] != 0x55 || fs[511] != 0xaa || string(fs[54:59]) != "FAT16" || fs[16] != 1 ||
		binary.LittleEndian.Uint16(fs[11:]) != sector {
		return layout{}, ErrFormat
	}
	l := layout{
		perCluster: int(fs[13]),
		reserved:   int(binary.LittleEndian.Uint16(fs[14:])),
		table:      int(binary.LittleEndian.Uint16(fs[22:])),
		root:       int(binary.LittleEndian.Uint16(fs[17:])) * entrySize / sector,
		total:      int(binary.LittleEndian.Uint32(fs[32:])),
	}
	if l.perCluster == 0 || l.reserved == 0 || l.table == 0 || l.dataStart() > l.total || l.dataStart()*sector > len(fs) {
		return layout{}, ErrFormat
	}
	return l, nil
}

// part returns n sectors.
func (fs FS) part(from, n int) []byte { return fs[from*sector : (from+n)*sector] }

// cluster returns the contents of one cluster.
func (fs FS) cluster(l layout, c int) ([]byte, error) {
	at := l.dataStart() + (c-2)*l.perCluster
	if c < 2 || c*2+2 > l.table*sector || (at+l.perCluster)*sector > len(fs) {
		return nil, fmt.Errorf("%w: cluster %d", ErrFormat, c)
	}
	return fs.part(at, l.perCluster), nil
}

// chain returns the clusters of a file or folder that begins with cluster first.
func (fs FS) chain(l layout, first int) (all [][]byte, err error) {
	for c := first; c < endOfChain; c = int(binary.LittleEndian.Uint16(fs.part(l.reserved, l.table)[2*c:])) {
		b, err := fs.cluster(l, c)
		if err != nil {
			return nil, err
		}
		if all = append(all, b); len(all) > maxCluster {
			return nil, fmt.Errorf("%w: a chain without end", ErrFormat)
		}
	}
	return all, nil
}
