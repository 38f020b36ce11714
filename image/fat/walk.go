package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// entry is a directory entry that is in use.
type entry struct {
	path string // with slashes, none at the beginning
	raw  []byte // its 32 bytes
}

func (e entry) attr() byte   { return e.raw[11] }
func (e entry) first() int   { return int(binary.LittleEndian.Uint16(e.raw[26:])) }
func (e entry) size() int    { return int(binary.LittleEndian.Uint32(e.raw[28:])) }
func (e entry) folder() bool { return e.attr()&attrDirectory != 0 }

// walk visits the entries of all folders, "." and ".." and the volume's label too.
func (fs FS) walk(visit func(entry) error) error {
	l, err := fs.layout()
	if err != nil {
		return err
	}
	return fs.walkDir(l, "", [][]byte{fs.part(l.rootStart(), l.root)}, visit)
}

func (fs FS) walkDir(l layout, path string, blocks [][]byte, visit func(entry) error) error {
	if strings.Count(path, "/") > 8 {
		return fmt.Errorf("%w: folders too deep", ErrFormat)
	}
	var long []uint16
	for _, dir := range blocks {
		for ; len(dir) >= entrySize; dir = dir[entrySize:] {
			raw := dir[:entrySize]
			switch {
			case raw[0] == 0 || raw[0] == 0xe5: // never used, or deleted
				long = nil
				continue
			case raw[11] == attrLongName: // the last part of a long name comes first
				long = append(longNamePart(raw), long...)
				continue
			}
			e := entry{path: path + name(raw, long), raw: raw}
			long = nil
			if err := visit(e); err != nil {
				return err
			}
			if !e.folder() || raw[0] == '.' {
				continue
			}
			below, err := fs.chain(l, e.first())
			if err != nil {
				return err
			}
			if err := fs.walkDir(l, e.path+"/", below, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func longNamePart(raw []byte) (part []uint16) {
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			if u := binary.LittleEndian.Uint16(raw[i:]); u != 0 && u != 0xffff {
				part = append(part, u)
			}
		}
	}
	return part
}

func name(raw []byte, long []uint16) string {
	if len(long) > 0 {
		return string(utf16.Decode(long))
	}
	base, ext := strings.TrimRight(string(raw[:8]), " "), strings.TrimRight(string(raw[8:11]), " ")
	if ext != "" {
		base += "." + ext
	}
	return base
}

// Files returns the contents of all files by their paths, as in "EFI/BOOT/BOOTX64.EFI".
func (fs FS) Files() (map[string][]byte, error) {
	l, err := fs.layout()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	return files, fs.walk(func(e entry) error {
		if e.attr()&(attrDirectory|attrVolume) != 0 {
			return nil
		}
		if e.size() == 0 {
			files[e.path] = nil
			return nil
		}
		clusters, err := fs.chain(l, e.first())
		if err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
		b := bytes.Join(clusters, nil)
		if len(b) < e.size() {
			return fmt.Errorf("%w: %s is cut short", ErrFormat, e.path)
		}
		files[e.path] = b[:e.size()]
		return nil
	})
}

// SetTimes gives all files and folders the same time.
func (fs FS) SetTimes(t time.Time) error {
	t = t.UTC()
	clock := uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	date := uint16((max(t.Year(), 1980)-1980)<<9 | int(t.Month())<<5 | t.Day())
	return fs.walk(func(e entry) error {
		binary.LittleEndian.PutUint16(e.raw[22:], clock)
		binary.LittleEndian.PutUint16(e.raw[24:], date)
		return nil
	})
}
