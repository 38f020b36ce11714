package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	sector = 512
	// alignment of a grown partition's end, in sectors: 1 MiB, which every flash card likes.
	alignment = 2048
)

// Errors of [Grow]: nothing was written.
var (
	// ErrUnknown means that the disk has no partition table that this package understands.
	ErrUnknown = errors.New("no partition table that can be grown")
	// ErrDamaged means that the table contradicts itself or its checksums are wrong.
	ErrDamaged = errors.New("damaged partition table")
	// ErrNotLast means that another partition lies behind the one to grow.
	ErrNotLast = errors.New("another partition lies behind it")
	// ErrDiskTooSmall means that a partition reaches beyond the end of the disk.
	ErrDiskTooSmall = errors.New("the disk is smaller than its partitions")
	// ErrNoRoom means that the gap before the first partition has no unused 16 KiB, which a
	// power-cut-safe change of a GPT needs.
	ErrNoRoom = errors.New("no unused space before the first partition")
)

// Device is a whole disk, or an image of one.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when everything written is on stable storage.
	Sync() error
}

// Growth says where a partition is, and what [Grow] did, in bytes.
type Growth struct {
	Start    int64
	From, To int64 // sizes before and after; equal when there was nothing to do
	Kind     string
}

// Grow extends the partition with the given number (from 1) to the end of the disk of
// size bytes, if it ends more than 1 MiB before. It never shrinks one, and completes
// what an interrupted call began. Errors wrap those above, or come from d.
func Grow(d Device, size int64, number int) (Growth, error) {
	if size%sector != 0 || size < 64*sector {
		return Growth{}, fmt.Errorf("%w: a disk of %d bytes", ErrUnknown, size)
	}
	mbr := make([]byte, sector)
	if _, err := d.ReadAt(mbr, 0); err != nil {
		return Growth{}, fmt.Errorf("read partition table: %w", err)
	}
	if binary.LittleEndian.Uint16(mbr[510:]) != 0xaa55 {
		return Growth{}, fmt.Errorf("%w: no signature in the first sector", ErrUnknown)
	}
	for n := range 4 {
		if mbr[446+16*n+4] == 0xee {
			return growGPT(d, uint64(size/sector), number)
		}
	}
	return growMBR(d, uint64(size/sector), number, mbr)
}

// target is the last sector, exclusive, that a partition may grow to.
func target(end uint64) uint64 { return end / alignment * alignment }

// span is a partition's place in sectors; to is exclusive.
type span struct{ from, to uint64 }

// check says whether the partition at index n of all may grow.
func check(all []span, n int, end uint64) error {
	if n < 0 || n >= len(all) || all[n] == (span{}) {
		return fmt.Errorf("%w: there is no partition %d", ErrUnknown, n+1)
	}
	for k, s := range all {
		switch {
		case s == (span{}):
		case s.to <= s.from || s.from == 0:
			return fmt.Errorf("%w: partition %d ends before it begins", ErrDamaged, k+1)
		case s.to > end:
			return fmt.Errorf("%w: partition %d ends at sector %d of %d", ErrDiskTooSmall, k+1, s.to, end)
		}
	}
	for k, s := range all {
		switch {
		case s == (span{}):
		case k != n && s.to > all[n].from && s.from < all[n].to:
			return fmt.Errorf("%w: partitions %d and %d overlap", ErrDamaged, k+1, n+1)
		case k != n && s.from >= all[n].to:
			return fmt.Errorf("%w: partition %d", ErrNotLast, k+1)
		}
	}
	return nil
}

func growth(kind string, old span, to uint64) Growth {
	return Growth{
		Kind: kind, Start: int64(old.from) * sector,
		From: int64(old.to-old.from) * sector, To: int64(to-old.from) * sector,
	}
}
