package disk

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"time"

	"kdht/appliance/disk/ext4"
)

// info shows a rescued file to archive/tar.
type info struct{ f *ext4.File }

func (i info) Name() string       { return path.Base(i.f.Path) }
func (i info) Size() int64        { return i.f.Size }
func (i info) Mode() fs.FileMode  { return i.f.Mode }
func (i info) ModTime() time.Time { return i.f.Time }
func (i info) IsDir() bool        { return i.f.Mode.IsDir() }
func (i info) Sys() any           { return nil }

// probe reads a file to its end.
func probe(f *ext4.File) error {
	_, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, f.Size))
	return err
}

// lenient reads a file of which some blocks cannot be read: these are zeros.
type lenient struct{ f *ext4.File }

func (l lenient) ReadAt(b []byte, off int64) (int, error) {
	const block = 4096
	for done := 0; done < len(b); {
		part := b[done : done+min(len(b)-done, int(block-(off+int64(done))%block))]
		n, err := l.f.ReadAt(part, off+int64(done))
		if errors.Is(err, io.EOF) {
			return done + n, io.EOF
		} else if err != nil {
			clear(part)
		}
		done += len(part)
	}
	return len(b), nil
}

func (l lenient) reader() io.Reader { return io.NewSectionReader(l, 0, l.f.Size) }
