package bootdisk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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

// maxReserved is the most sectors that can be reserved before a FAT: the field has 16 bits.
const maxReserved = 1<<16 - 8

// Stage writes a boot image, a FAT16 file system as gokrazy's packer makes it, to a part of the boot partition that the
// one in force does not use. Nothing selects it. It returns the number of sectors reserved before it.
func (d *Disk) Stage(image io.Reader) (reserved int, err error) {
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return 0, err
	}
	if now.reserved < 4 {
		return 0, fmt.Errorf("%w: the one in force has no room for its own card", ErrNoRoom)
	}
	first := make([]byte, sector)
	if _, err := io.ReadFull(image, first); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	f, err := parseBoot(first)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	if f.wide || f.tables != 1 || f.reserved > 64 {
		return 0, fmt.Errorf("%w: it is no FAT16 with one table", ErrBootImage)
	}
	// The file system moves as it is, but for a longer table and root directory, where there is room for that.
	old := *f
	var need, rootSize, clusters int64
	for _, more := range []int64{spareBytes, 0} {
		*f = old
		if clusters = int64(f.clusters) + more/f.cluster; clusters > 65500 {
			clusters = max(65500, int64(f.clusters))
		}
		if more > 0 {
			f.rootEntries += spareEntries
		}
		f.tableSize = max(f.tableSize, (2*(clusters+2)+sector-1)/sector*sector)
		rootSize = int64((f.rootEntries*32 + sector - 1) / sector * sector)
		f.rootEntries = int(rootSize / 32)
		need = f.tableSize + rootSize + clusters*f.cluster
		if f.reserved, err = place(now, need, d.Boot.Size()); err == nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	f.data = f.rootDir() + rootSize
	f.clusters = uint32(clusters)

	// A card that is left from an earlier file system there must not vouch for this one.
	if _, err := d.Boot.WriteAt(make([]byte, 4*sector), int64(f.reserved-4)*sector); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(io.Discard, image, old.start()-sector); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	w := &sectorWriter{dev: d.Boot, off: f.start(), end: f.start() + need, sum: sha256.New()}
	if err := w.part(image, old.tableSize, f.tableSize); err != nil {
		return 0, err
	}
	if err := w.part(image, old.data-old.rootDir(), rootSize); err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, image); err != nil {
		return 0, err
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := errors.Join(writeBPB(d.Boot, f, first), d.Boot.Sync()); err != nil {
		return 0, err
	}
	back := sha256.New()
	if _, err := io.Copy(back, &sectorReader{dev: d.Boot, off: f.start(), end: w.off}); err != nil {
		return 0, err
	}
	if !bytes.Equal(back.Sum(nil), w.sum.Sum(nil)) {
		return 0, ErrReadBack
	}
	return f.reserved, nil
}

// writeBPB writes the boot sector that belongs to f, made of the one that came with the image, to its place before the
// first table, without a card.
func writeBPB(dev Device, f *fat, b []byte) error {
	total := f.data/sector + int64(f.clusters)*f.cluster/sector
	binary.LittleEndian.PutUint16(b[14:], uint16(f.reserved))
	binary.LittleEndian.PutUint16(b[17:], uint16(f.rootEntries))
	binary.LittleEndian.PutUint16(b[19:], 0)
	binary.LittleEndian.PutUint16(b[22:], uint16(f.tableSize/sector))
	binary.LittleEndian.PutUint32(b[32:], uint32(total))
	_, err := dev.WriteAt(b, int64(f.reserved+bootCopy)*sector)
	return err
}

// place chooses where a file system of so many bytes goes: behind the one in force, or before it.
func place(now *fat, need, size int64) (reserved int, err error) {
	const align, head = 8, 8 // sectors: for the medium, and for boot sector and card before the first table
	up := func(n int64) int64 { return (n + align - 1) / align * align }
	if r := int64(head); r*sector+need <= now.start()-4*sector {
		return int(r), nil
	}
	r := up(now.end()/sector) + head
	if r <= maxReserved && r*sector+need <= size {
		return int(r), nil
	}
	return 0, fmt.Errorf("%w: the one in force ends at %d KiB, and %d KiB more are needed in a partition of %d KiB", ErrNoRoom, now.end()>>10, need>>10, size>>10)
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

// part copies n bytes and fills them up to size.
func (w *sectorWriter) part(r io.Reader, n, size int64) error {
	if _, err := io.CopyN(w, r, n); err != nil {
		return fmt.Errorf("%w: %w", ErrBootImage, err)
	}
	_, err := w.Write(make([]byte, size-n))
	return err
}
