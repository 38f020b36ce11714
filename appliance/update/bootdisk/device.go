package bootdisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// sector is the unit that a disk writes whole or not at all, and the unit of every table on a gokrazy disk.
const sector = 512

// Device is a disk or a partition. Offsets and lengths are multiples of 512 bytes. What was written before Sync
// returned survives a power cut; what was not may be there in part, in any order, but never half a sector.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Size() int64 // bytes
}

// raw is a block device behind the back of the page cache: what is read comes from the medium, and what is written goes
// there.
type raw struct {
	f    *os.File
	size int64

	mu  sync.Mutex
	buf []byte // page-aligned, as O_DIRECT wants it
}

// chunk is how much is moved at a time.
const chunk = 1 << 20

// ErrBusy says that a partition is mounted, so that it must not be written behind the file system's back.
var ErrBusy = errors.New("partition is in use")

// openRaw opens a block device. With exclusive it fails with [ErrBusy] while the device is mounted.
func openRaw(path string, exclusive bool) (*raw, error) {
	flags := os.O_RDWR | unix.O_DIRECT | unix.O_CLOEXEC
	if exclusive {
		flags |= os.O_EXCL // to a block device this means: not mounted, not otherwise claimed
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s: %w", path, ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &raw{f: f, size: size, buf: buf}, nil
}

func (r *raw) Size() int64 { return r.size }
func (r *raw) Sync() error { return r.f.Sync() }

// Close ends the use of the device.
func (r *raw) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	buf := r.buf
	if r.buf = nil; buf == nil {
		return nil
	}
	return errors.Join(unix.Munmap(buf), r.f.Close())
}

func (r *raw) ReadAt(p []byte, off int64) (n int, err error) {
	return r.move(p, off, func(buf []byte, off int64) (int, error) { return r.f.ReadAt(buf, off) }, func(p, buf []byte) { copy(p, buf) }, nil)
}

func (r *raw) WriteAt(p []byte, off int64) (n int, err error) {
	return r.move(p, off, func(buf []byte, off int64) (int, error) { return r.f.WriteAt(buf, off) }, nil, func(buf, p []byte) { copy(buf, p) })
}

// move carries p to or from the device through the aligned buffer.
func (r *raw) move(p []byte, off int64, io func([]byte, int64) (int, error), after, before func(dst, src []byte)) (n int, err error) {
	if off%sector != 0 || len(p)%sector != 0 {
		return 0, fmt.Errorf("%s: %d bytes at %d: %w", r.f.Name(), len(p), off, errUnaligned)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf == nil {
		return 0, os.ErrClosed
	}
	for n < len(p) {
		part := p[n:min(len(p), n+len(r.buf))]
		buf := r.buf[:len(part)]
		if before != nil {
			before(buf, part)
		}
		k, err := io(buf, off+int64(n))
		if after != nil {
			after(part[:k], buf[:k])
		}
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

var errUnaligned = errors.New("not whole sectors")

// readAny reads any range of a device, of which only whole sectors can be read.
func readAny(d io.ReaderAt, off int64, length int) ([]byte, error) {
	from := off / sector * sector
	to := (off + int64(length) + sector - 1) / sector * sector
	buf := make([]byte, to-from)
	if _, err := d.ReadAt(buf, from); err != nil {
		return nil, err
	}
	return buf[off-from:][:length], nil
}
