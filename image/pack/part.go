package pack

import (
	"io"

	"kdht/appliance/update/bootdisk"
)

// Part gives size bytes of the disk in a file, from off on, as a device. Nothing is synced.
func Part(f interface {
	io.ReaderAt
	io.WriterAt
}, off, size int64,
) bootdisk.Device {
	return part{f, f, off, size}
}

type part struct {
	r         io.ReaderAt
	w         io.WriterAt
	off, size int64
}

func (p part) ReadAt(b []byte, off int64) (int, error)  { return p.r.ReadAt(b, p.off+off) }
func (p part) WriteAt(b []byte, off int64) (int, error) { return p.w.WriteAt(b, p.off+off) }
func (p part) Sync() error                              { return nil }
func (p part) Size() int64                              { return p.size }
