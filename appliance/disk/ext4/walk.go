package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// File is a file, directory or symbolic link that [Walk] can still read. Its contents
// come from ReadAt; nobody can tell whether they are what was written, as ext4 keeps no
// checksums of them.
type File struct {
	// Path is relative to the root of the file system, without a leading slash. What no
	// directory leads to any more is lost+found/#N, N being its inode.
	Path     string
	Mode     fs.FileMode
	UID, GID int
	Time     time.Time // last change of the contents
	Size     int64     // 0 for a directory
	Link     string    // target of a symbolic link

	v       *volume
	extents []extent
}

// Used calls visit with every span of the device, in bytes, that holds contents.
func (f *File) Used(visit func(from, to int64)) {
	for _, x := range f.extents {
		if !x.unwritten {
			visit(int64(x.start)*blockSize, int64(x.start+x.count)*blockSize)
		}
	}
}

// ReadAt implements io.ReaderAt. What was never written reads as zeros.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= f.Size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), f.Size-off))
	clear(b[:n])
	for _, x := range f.extents {
		from, to := int64(x.file)*blockSize, int64(x.file+x.count)*blockSize
		if x.unwritten || to <= off || from >= off+int64(n) {
			continue
		}
		lo, hi := max(from, off), min(to, off+int64(n))
		_, err := f.v.r.ReadAt(b[lo-off:hi-off], int64(x.start)*blockSize+lo-from)
		if errors.Is(err, io.EOF) { // of the device
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Walk visits what can still be read of a damaged file system, directories before what is
// in them. It lists what could not be read. An error means that nothing can be
// read, or comes from visit or ctx.
func Walk(ctx context.Context, r io.ReaderAt, visit func(*File) error) (lost []string, err error) {
	v, err := open(r)
	if err != nil {
		return nil, err
	}
	w := &walker{ctx: ctx, v: v, visit: visit, seen: map[uint32]bool{}}
	root, err := v.inode(inoRoot)
	if err == nil {
		w.seen[inoRoot] = true
		err = w.directory(&root, inoRoot, "")
	}
	if stop := (*stopError)(nil); errors.As(err, &stop) {
		return w.lost, stop.err
	} else if err != nil {
		w.lost = append(w.lost, "/: "+err.Error())
	}
	return w.lost, w.nameless()
}

type walker struct {
	ctx   context.Context
	v     *volume
	visit func(*File) error
	seen  map[uint32]bool
	lost  []string
}

// stopError carries an error of visit through the tree.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

func (w *walker) directory(i *inode, number uint32, name string) error {
	list, err := w.v.directory(i, number)
	if err != nil {
		w.lost = append(w.lost, "a part of /"+name+": "+err.Error())
	}
	for _, e := range list {
		if e.name == "." || e.name == ".." || !fs.ValidPath(e.name) || path.Base(e.name) != e.name || w.seen[e.inode] {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return &stopError{err}
		}
		w.seen[e.inode] = true
		child, err := w.v.inode(e.inode)
		if err == nil {
			err = w.file(&child, e.inode, path.Join(name, e.name))
		}
		if stop := (*stopError)(nil); errors.As(err, &stop) {
			return err
		} else if err != nil {
			w.lost = append(w.lost, "/"+path.Join(name, e.name)+": "+err.Error())
		}
	}
	return nil
}

// file visits one file, and what is in it if it is a directory.
func (w *walker) file(i *inode, number uint32, name string) error {
	f := &File{
		Path: name, Mode: fs.FileMode(i.Mode & 0o777), Time: time.Unix(int64(i.Mtime), 0), v: w.v,
		UID: int(i.UID) | int(i.UIDHi)<<16, GID: int(i.GID) | int(i.GIDHi)<<16,
	}
	kind := i.Mode & modeType
	switch {
	case kind == modeDir:
		f.Mode |= fs.ModeDir
		if err := w.visit(f); err != nil {
			return &stopError{err}
		}
		return w.directory(i, number, name)
	case kind == modeSymlink && i.Flags&inodeExtents == 0 && i.size() < uint64(len(i.Block)):
		f.Mode |= fs.ModeSymlink
		f.Link = string(i.Block[:i.size()])
	case kind == modeSymlink && i.size() <= blockSize, kind == modeRegular && i.Flags&inodeInlineData == 0:
		var err error
		if f.extents, err = w.v.extents(i, number, nil); err != nil {
			return err
		}
		if i.size() > w.v.super.blocks()*blockSize {
			return fmt.Errorf("%d bytes: %w", i.size(), ErrGeometry)
		}
		f.Size = int64(i.size())
		if kind == modeSymlink {
			b := make([]byte, f.Size)
			if _, err := f.ReadAt(b, 0); err != nil {
				return err
			}
			f.Mode |= fs.ModeSymlink
			f.Link, f.Size, f.extents = string(bytes.TrimRight(b, "\x00")), 0, nil
		}
	default:
		return nil // a device, pipe or socket: nothing to save
	}
	if err := w.visit(f); err != nil {
		return &stopError{err}
	}
	return nil
}

// nameless visits the regular files that no directory leads to.
func (w *walker) nameless() error {
	s := &w.v.super
	for g, d := range w.v.groups {
		if !w.v.badGroups[uint64(g)] && d.Flags&groupInodeUninit != 0 {
			continue
		}
		for n := range s.InodesPerGroup - uint32(d.ItableUnused) {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			number := uint32(g)*s.InodesPerGroup + n + 1
			if number < s.FirstIno || number == s.OrphanFileInum || w.seen[number] {
				continue
			}
			i, err := w.v.inode(number)
			if err != nil || i.Links == 0 || i.Mode&modeType != modeRegular {
				continue
			}
			err = w.file(&i, number, fmt.Sprintf("lost+found/#%d", number))
			if stop := (*stopError)(nil); errors.As(err, &stop) {
				return stop.err
			}
		}
	}
	return nil
}
