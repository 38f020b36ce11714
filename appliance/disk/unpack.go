package disk

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
)

// unpack puts saved files below root, over what a call that was interrupted put there.
// It lists the files that could not be written; the error is for the stream as a whole.
func unpack(ctx context.Context, r io.Reader, root string) (lost []string, err error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	t := tar.NewReader(zip)
	for {
		if err := ctx.Err(); err != nil {
			return lost, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return lost, nil
		} else if err != nil {
			return lost, err
		}
		if err := unpackOne(dir, h, t); err != nil {
			lost = append(lost, "/"+h.Name+": "+err.Error())
		}
	}
}

func unpackOne(dir *os.Root, h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	mode := fs.FileMode(h.Mode).Perm()
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := dir.MkdirAll(name, mode); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return errors.Join(dir.Symlink(h.Linkname, name), dir.Lchown(name, h.Uid, h.Gid))
	default:
		f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return errors.Join(err, dir.Remove(name)) // half a file helps nobody
		}
	}
	return errors.Join(dir.Lchown(name, h.Uid, h.Gid), dir.Chmod(name, mode), dir.Chtimes(name, h.ModTime, h.ModTime))
}
