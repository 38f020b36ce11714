package bootdisk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Errors of a boot image.
var (
	// ErrNoRoom says that the boot partition cannot have a second boot file system beside the one in force.
	ErrNoRoom = errors.New("no room for a second boot file system")
	// ErrBootImage says that what was sent is no boot file system that could be placed.
	ErrBootImage = errors.New("not a boot file system of gokrazy")
)

// Room that a placed boot file system gets beside its files, so that one can put a configuration file there.
const (
	spareEntries = 64
	spareBytes   = 4 << 20
)

// Stage writes a boot image, a FAT16 file system as gokrazy's packer makes it, to a part of the boot partition that the
// one in force does not use. Nothing selects it. Its files move, and get larger clusters where the place is far from the table;
// it gets free space, too, as long as there is room for that. It returns the number of sectors reserved before it.
func (d *Disk) Stage(image io.Reader) (reserved int, err error) {
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return 0, err
	}
	if now.reserved < head {
		return 0, fmt.Errorf("%w: the one in force has no room for its own card", ErrNoRoom)
	}
	in, err := readImage(image)
	if err != nil {
		return 0, err
	}
	var s site
	for _, more := range []int64{1, 0} {
		root := in.rootSectors(int(more) * spareEntries)
		need := func(cluster int64) int64 { return in.size(cluster) + more*spareBytes }
		if s, err = place(now, need, root, smallest(in.cluster, d.Boot.Size()), d.Boot.Size()); err == nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	f, err := lay(d.Boot, s, in, image)
	if err != nil {
		return 0, err
	}
	return f.reserved, nil
}

// lay writes a file system to its site, with its boot sector before the table, as something that nothing selects.
func lay(dev Device, s site, in *incoming, image io.Reader) (*fat, error) {
	f, moved, err := in.at(s)
	if err != nil {
		return nil, err
	}
	f.dev = dev
	// A card that is left from an earlier file system there must not vouch for this one.
	if _, err := dev.WriteAt(make([]byte, head*sector), f.start()-head*sector); err != nil {
		return nil, err
	}
	return f, serial(
		func() error { return fill(dev, f, s, in, image) },
		func() error { return relink(dev, f, in.root, moved) },
		func() error {
			_, err := dev.WriteAt(f.boot, int64(f.reserved+bootCopy)*sector)
			return err
		},
		dev.Sync)
}

// fill writes table, root directory and files, and checks what the medium gives back.
func fill(dev Device, f *fat, s site, in *incoming, image io.Reader) error {
	meta := &sectorWriter{dev: dev, off: f.start(), end: f.data, sum: sha256.New()}
	files := &sectorWriter{dev: dev, off: s.offset(s.first), end: s.offset(s.first) + in.size(s.cluster), sum: sha256.New()}
	_, _ = meta.Write(f.entries) // it fails when it is flushed
	_, _ = meta.Write(in.root)
	_, err := meta.Write(make([]byte, f.data-f.rootDir()-int64(len(in.root))))
	if err := errors.Join(err, meta.flush(), in.copy(files, image, s.cluster), files.flush(), dev.Sync()); err != nil {
		return err
	}
	for _, w := range []*sectorWriter{meta, files} {
		from := f.start()
		if w == files {
			from = s.offset(s.first)
		}
		back := sha256.New()
		if _, err := io.Copy(back, &sectorReader{dev: dev, off: from, end: w.off}); err != nil {
			return err
		}
		if !bytes.Equal(back.Sum(nil), w.sum.Sum(nil)) {
			return ErrReadBack
		}
	}
	return nil
}

// sectorWriter writes whole sectors one after the other.
type sectorWriter struct {
	dev      Device
	off, end int64
	buf      []byte
	sum      hash.Hash // of what was written; nil if nobody asks
}

func (w *sectorWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k := min(len(p)-n, chunk-len(w.buf))
		w.buf = append(w.buf, p[n:n+k]...)
		n += k
		if len(w.buf) == chunk {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return len(p), nil
}

// flush writes what is left, filled up to a sector.
func (w *sectorWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if pad := len(w.buf) % sector; pad != 0 {
		w.buf = append(w.buf, make([]byte, sector-pad)...)
	}
	if w.off+int64(len(w.buf)) > w.end {
		return fmt.Errorf("%w: more bytes than its boot sector says", ErrBootImage)
	}
	if _, err := w.dev.WriteAt(w.buf, w.off); err != nil {
		return err
	}
	if w.sum != nil {
		_, _ = w.sum.Write(w.buf) // hashes do not fail
	}
	w.off, w.buf = w.off+int64(len(w.buf)), w.buf[:0]
	return nil
}
