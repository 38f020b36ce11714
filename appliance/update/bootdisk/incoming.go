package bootdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// incoming is a boot image that arrives, up to its files: each of them, and each directory, is one run of clusters.
type incoming struct {
	*fat
	root []byte // directory
	runs []run
}

// run is what a file or a directory has.
type run struct{ first, n uint32 }

const (
	entrySize = 32 // bytes of a directory entry

	badCluster = 0xfff7
)

// readImage reads an image up to its files.
func readImage(image io.Reader) (*incoming, error) {
	first := make([]byte, sector)
	if _, err := io.ReadFull(image, first); err != nil {
		return nil, tooShort(err)
	}
	f, err := parseBoot(first)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	if f.wide || f.tables != 1 || f.reserved > 64 {
		return nil, fmt.Errorf("%w: it is no FAT16 with one table", ErrBootImage)
	}
	if _, err := io.CopyN(io.Discard, image, f.start()-sector); err != nil {
		return nil, tooShort(err)
	}
	in := &incoming{fat: f, root: make([]byte, f.data-f.rootDir())}
	f.entries = make([]byte, f.tableSize)
	for _, b := range [][]byte{f.entries, in.root} {
		if _, err := io.ReadFull(image, b); err != nil {
			return nil, tooShort(err)
		}
	}
	for c := uint32(2); c < f.clusters+2; {
		if f.next(c) == 0 {
			c++
			continue
		}
		r := run{first: c}
		for f.next(c) == c+1 && c+1 < f.clusters+2 {
			c++
		}
		if f.next(c) < 0xfffffff8 {
			return nil, fmt.Errorf("%w: what lies at cluster %d is not in one piece", ErrBootImage, r.first)
		}
		c++
		r.n = c - r.first
		in.runs = append(in.runs, r)
	}
	return in, nil
}

// tooShort is the error for an image that ends before its files do.
func tooShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early: %w", ErrBootImage, err)
	}
	return err
}

// clusters is how many clusters of a size the run takes.
func (in *incoming) clustersOf(r run, cluster int64) uint32 {
	return uint32((int64(r.n)*in.cluster + cluster - 1) / cluster)
}

// size is how many bytes all files take in clusters of a size.
func (in *incoming) size(cluster int64) (n int64) {
	for _, r := range in.runs {
		n += int64(in.clustersOf(r, cluster)) * cluster
	}
	return n
}

// rootSectors is how many sectors the root directory takes with room for more entries.
func (in *incoming) rootSectors(more int) int {
	return (len(in.root) + more*entrySize + sector - 1) / sector
}

// at gives the file system as it is at a site, its root directory in in.root, and where the runs went.
func (in *incoming) at(s site) (f *fat, moved map[uint32]uint32, err error) {
	b := bytes.Clone(in.boot)
	b[13] = byte(s.cluster / sector)
	binary.LittleEndian.PutUint16(b[14:], uint16(s.reserved))
	binary.LittleEndian.PutUint16(b[17:], uint16(s.root*sector/entrySize))
	binary.LittleEndian.PutUint16(b[19:], 0)
	binary.LittleEndian.PutUint16(b[22:], uint16(s.table))
	binary.LittleEndian.PutUint32(b[32:], uint32(s.offset(s.clusters+2)/sector))
	if f, err = parseBoot(b); err != nil {
		return nil, nil, err
	}
	f.entries = make([]byte, f.tableSize)
	set := func(c uint32, to uint16) { binary.LittleEndian.PutUint16(f.entries[2*c:], to) }
	copy(f.entries, in.entries[:4])
	for c := uint32(2); c < s.first; c++ {
		set(c, badCluster)
	}
	moved = make(map[uint32]uint32)
	c := s.first
	for _, r := range in.runs {
		moved[r.first] = c
		for n := in.clustersOf(r, s.cluster); n > 1; n-- {
			set(c, uint16(c+1))
			c++
		}
		set(c, 0xffff)
		c++
	}
	return f, moved, relinkEntries(in.root, 0, 0, moved)
}

// copy writes the files, each from the beginning of a cluster of the given size, and reads the image to its end.
func (in *incoming) copy(w io.Writer, image io.Reader, cluster int64) error {
	c := uint32(2)
	for _, r := range in.runs {
		if _, err := io.CopyN(io.Discard, image, int64(r.first-c)*in.cluster); err != nil {
			return tooShort(err)
		}
		n := int64(r.n) * in.cluster
		if k, err := io.CopyN(w, image, n); err != nil {
			if k < n {
				err = tooShort(err)
			}
			return err
		}
		if _, err := w.Write(make([]byte, int64(in.clustersOf(r, cluster))*cluster-n)); err != nil {
			return err
		}
		c = r.first + r.n
	}
	rest := int64(in.clusters+3-c)*in.cluster - sector // the last one may lack a part
	switch n, err := io.Copy(io.Discard, io.LimitReader(image, rest+1)); {
	case err != nil:
		return err
	case n > rest:
		return fmt.Errorf("%w: more bytes than its boot sector says", ErrBootImage)
	}
	return nil
}

// relink has the directories of a file system that was moved name the clusters where its files are now.
func relink(dev Device, f *fat, root []byte, moved map[uint32]uint32) error {
	type dir struct{ first, parent uint32 }
	var todo []dir
	below := func(b []byte, parent uint32) {
		for ; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
			if isFile(b) && b[11]&attrDirectory != 0 && b[0] != '.' {
				todo = append(todo, dir{uint32(binary.LittleEndian.Uint16(b[26:])), parent})
			}
		}
	}
	below(root, 0)
	for n := 0; n < len(todo); n++ {
		if n > len(moved) {
			return fmt.Errorf("%w: a directory is in itself", ErrBootImage)
		}
		x := todo[n]
		list, err := f.chain(x.first)
		if err != nil {
			return err
		}
		b, err := readAny(dev, f.offset(x.first), len(list)*int(f.cluster)) // in one piece
		if err != nil {
			return err
		}
		if err := relinkEntries(b, x.first, x.parent, moved); err != nil {
			return err
		}
		if _, err := dev.WriteAt(b, f.offset(x.first)); err != nil {
			return err
		}
		back, err := readAny(dev, f.offset(x.first), len(b))
		if err != nil {
			return err
		}
		if !bytes.Equal(back, b) {
			return ErrReadBack
		}
		below(b, x.first)
	}
	return nil
}

// relinkEntries changes the first clusters in a directory that is at first itself.
func relinkEntries(dir []byte, first, parent uint32, moved map[uint32]uint32) error {
	for b := dir; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
		if !isFile(b) {
			continue
		}
		at := uint32(binary.LittleEndian.Uint16(b[26:]))
		to, ok := moved[at]
		switch {
		case string(b[:2]) == ". ":
			to = first
		case string(b[:3]) == ".. ":
			to = parent
		case at == 0: // empty
		case !ok:
			return fmt.Errorf("%w: a file begins in the middle of another", ErrBootImage)
		}
		binary.LittleEndian.PutUint16(b[26:], uint16(to))
	}
	return nil
}

// isFile says whether a directory entry is that of a file or a directory.
func isFile(entry []byte) bool {
	return entry[0] != 0xe5 && entry[11] != attrLongName && entry[11]&attrVolume == 0
}
