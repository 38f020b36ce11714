package bootdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Attributes of directory entries.
const (
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrLongName  = 0x0f
)

// ErrFAT says that a boot file system cannot be read.
var ErrFAT = errors.New("unreadable boot file system")

// fat is a FAT16 or FAT32 file system, as far as its files are to be found. Offsets are bytes of the partition.
type fat struct {
	dev         io.ReaderAt
	boot        []byte // its boot sector, wherever that lies at the moment
	reserved    int    // sectors before the first table
	tables      int
	tableSize   int64 // bytes of one table
	rootEntries int   // of FAT16
	cluster     int64 // bytes
	clusters    uint32
	data        int64  // offset of cluster 2
	wide        bool   // FAT32
	rootCluster uint32 // of FAT32
	entries     []byte // the first table
}

// readFAT reads the file system whose boot sector is at an offset, which is 0 for the one that is in force.
func readFAT(dev io.ReaderAt, at int64) (*fat, error) {
	b := make([]byte, sector)
	if _, err := dev.ReadAt(b, at); err != nil {
		return nil, err
	}
	f, err := parseBoot(b)
	if err != nil {
		return nil, err
	}
	f.dev = dev
	f.entries, err = readAny(dev, f.start(), int(f.tableSize))
	return f, err
}

// parseBoot reads a boot sector (BIOS parameter block).
func parseBoot(b []byte) (*fat, error) {
	u16 := func(off int) int { return int(binary.LittleEndian.Uint16(b[off:])) }
	u32 := func(off int) int64 { return int64(binary.LittleEndian.Uint32(b[off:])) }
	bad := func(format string, args ...any) (*fat, error) {
		return nil, fmt.Errorf("%w: %s", ErrFAT, fmt.Sprintf(format, args...))
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return bad("no boot sector")
	}
	if u16(11) != sector {
		return bad("%d bytes per sector", u16(11))
	}
	f := &fat{boot: bytes.Clone(b), cluster: int64(b[13]) * sector, reserved: u16(14), tables: int(b[16]), rootEntries: u16(17), tableSize: int64(u16(22)) * sector}
	total := int64(u16(19))
	if total == 0 {
		total = u32(32)
	}
	if f.tableSize == 0 {
		f.wide, f.tableSize, f.rootCluster = true, u32(36)*sector, uint32(u32(44))
	}
	if b[13] == 0 || b[13]&(b[13]-1) != 0 || f.reserved == 0 || f.tables == 0 || f.tables > 2 || f.tableSize == 0 || f.tableSize > 16<<20 {
		return bad("impossible geometry")
	}
	f.data = f.rootDir() + int64((f.rootEntries*32+sector-1)/sector)*sector
	n := (total*sector - f.data) / f.cluster
	width := int64(2)
	if f.wide {
		width = 4
	}
	if n = min(n, f.tableSize/width-2); n < 1 {
		return bad("no clusters")
	}
	f.clusters = uint32(n)
	return f, nil
}

func (f *fat) start() int64   { return int64(f.reserved) * sector }
func (f *fat) rootDir() int64 { return f.start() + int64(f.tables)*f.tableSize }

// next gives what the table says about a cluster: the next one of the chain, 0 if it is free.
func (f *fat) next(c uint32) uint32 {
	if f.wide {
		n := binary.LittleEndian.Uint32(f.entries[4*c:]) & 0x0fffffff
		if n >= 0x0ffffff7 {
			n |= 0xf0000000
		}
		return n
	}
	n := uint32(binary.LittleEndian.Uint16(f.entries[2*c:]))
	if n >= 0xfff7 {
		n |= 0xffff0000
	}
	return n
}

// bad says whether the table has a cluster as one that must not be used.
func (f *fat) bad(c uint32) bool { return f.next(c) == 0xfffffff7 }

// offset is where a cluster begins.
func (f *fat) offset(c uint32) int64 { return f.data + int64(c-2)*f.cluster }

// end is the offset behind the last cluster that is in use.
func (f *fat) end() int64 {
	for c := f.clusters + 1; c >= 2; c-- {
		if f.next(c) != 0 && !f.bad(c) {
			return f.offset(c + 1)
		}
	}
	return f.data
}

// file is a file of the boot file system.
type file struct {
	path  string // lower case, with slashes, without one at the beginning
	size  int64
	first uint32 // cluster
	entry int64  // offset of its directory entry
	dir   bool   // it is a directory
}

// chain gives the clusters of a file.
func (f *fat) chain(first uint32) (list []uint32, err error) {
	for c := first; c < 0xfffffff7 && c != 0; c = f.next(c) {
		if c < 2 || c >= f.clusters+2 || len(list) > int(f.clusters) {
			return nil, fmt.Errorf("%w: broken cluster chain", ErrFAT)
		}
		list = append(list, c)
	}
	return list, nil
}

// files lists all files.
func (f *fat) files() ([]file, error) {
	all, err := f.walk()
	return slices.DeleteFunc(all, func(x file) bool { return x.dir }), err
}

// walk lists all files and directories.
func (f *fat) walk() ([]file, error) {
	if f.wide {
		return f.directory("", f.rootCluster, 0)
	}
	b, err := readAny(f.dev, f.rootDir(), f.rootEntries*32)
	if err != nil {
		return nil, err
	}
	return f.scan("", b, func(i int) int64 { return f.rootDir() + int64(i) }, 0)
}

// directory lists the files below a directory that is made of clusters.
func (f *fat) directory(path string, first uint32, depth int) ([]file, error) {
	list, err := f.chain(first)
	if err == nil && depth > 8 {
		err = fmt.Errorf("%w: directories too deep", ErrFAT)
	}
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, c := range list {
		part, err := readAny(f.dev, f.offset(c), int(f.cluster))
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	return f.scan(path, b, func(i int) int64 { return f.offset(list[i/int(f.cluster)]) + int64(i)%f.cluster }, depth)
}

// scan reads directory entries; where tells the offset of byte i of them.
func (f *fat) scan(path string, b []byte, where func(i int) int64, depth int) (all []file, err error) {
	var long []uint16
	for i := 0; i+32 <= len(b); i += 32 {
		e := b[i : i+32]
		if e[0] == 0 {
			break
		}
		if e[0] == 0xe5 {
			long = nil
			continue
		}
		if e[11] == attrLongName { // part of a long name; the last part comes first
			long = append(longPart(e), long...)
			continue
		}
		name := entryName(e, long)
		long = nil
		if e[11]&attrVolume != 0 || name == "." || name == ".." { // volume label
			continue
		}
		if path != "" {
			name = path + "/" + name
		}
		x := file{path: name, size: int64(binary.LittleEndian.Uint32(e[28:])), first: uint32(binary.LittleEndian.Uint16(e[26:])), entry: where(i)}
		if f.wide {
			x.first |= uint32(binary.LittleEndian.Uint16(e[20:])) << 16
		}
		x.dir = e[11]&attrDirectory != 0
		if all = append(all, x); !x.dir {
			continue
		}
		below, err := f.directory(name, x.first, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// longPart gives the part of a long name that is in an entry.
func longPart(e []byte) (part []uint16) {
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for k := r[0]; k < r[1]; k += 2 {
			part = append(part, binary.LittleEndian.Uint16(e[k:]))
		}
	}
	return part
}

// entryName gives the name of a directory entry in lower case: the long one if there is one.
func entryName(e []byte, long []uint16) string {
	for i, u := range long {
		if u == 0 || u == 0xffff {
			long = long[:i]
			break
		}
	}
	if len(long) > 0 {
		return strings.ToLower(string(utf16.Decode(long)))
	}
	name := strings.TrimRight(string(e[:8]), " ")
	if ext := strings.TrimRight(string(e[8:11]), " "); ext != "" {
		name += "." + ext
	}
	return strings.ToLower(name)
}

// find looks up one file.
func (f *fat) find(path string) (file, error) {
	all, err := f.files()
	if err != nil {
		return file{}, err
	}
	for _, x := range all {
		if x.path == path {
			return x, nil
		}
	}
	return file{}, fmt.Errorf("%w: no %s", ErrFAT, path)
}

// open gives the content of a file.
func (f *fat) open(x file) (io.Reader, error) {
	list, err := f.chain(x.first)
	if err != nil {
		return nil, err
	}
	if int64(len(list))*f.cluster < x.size {
		return nil, fmt.Errorf("%w: %s is cut short", ErrFAT, x.path)
	}
	var parts []io.Reader
	for i := 0; i < len(list); {
		n := 1 // clusters in a row
		for i+n < len(list) && list[i+n] == list[i]+uint32(n) {
			n++
		}
		parts = append(parts, &sectorReader{dev: f.dev, off: f.offset(list[i]), end: f.offset(list[i] + uint32(n))})
		i += n
	}
	return io.LimitReader(io.MultiReader(parts...), x.size), nil
}

// content gives the content of a small file by its path.
func (f *fat) content(path string) ([]byte, error) {
	x, err := f.find(path)
	if err != nil {
		return nil, err
	}
	return f.read(x)
}

// read gives the content of a small file.
func (f *fat) read(x file) ([]byte, error) {
	if x.size > 16<<20 {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrFAT, x.path, x.size)
	}
	r, err := f.open(x)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != x.size {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// sectorReader reads a range of whole sectors.
type sectorReader struct {
	dev      io.ReaderAt
	off, end int64
	buf      []byte
}

func (r *sectorReader) Read(p []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.off >= r.end {
			return 0, io.EOF
		}
		b := make([]byte, min(64<<10, r.end-r.off))
		if _, err := r.dev.ReadAt(b, r.off); err != nil {
			return 0, err
		}
		r.off, r.buf = r.off+int64(len(b)), b
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}
