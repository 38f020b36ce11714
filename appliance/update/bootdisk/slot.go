package bootdisk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of a root file system.
var (
	// ErrTooLarge says that it does not fit into its partition.
	ErrTooLarge = errors.New("larger than the root partition")
	// ErrNotRoot says that it is no complete squashfs.
	ErrNotRoot = errors.New("not a complete root file system")
	// ErrReadBack says that the medium gives back something else than was written to it.
	ErrReadBack = errors.New("the medium does not give back what was written")
)

// WriteRoot writes a root file system to a slot and syncs it. It returns how many bytes there were, and their SHA-256.
func WriteRoot(slot Device, r io.Reader) (n int64, sum [32]byte, err error) {
	h := sha256.New()
	w := &sectorWriter{dev: slot, end: slot.Size()}
	n, err = io.Copy(io.MultiWriter(h, w), io.LimitReader(r, slot.Size()+1))
	if err == nil && n > slot.Size() {
		err = fmt.Errorf("%w of %d bytes", ErrTooLarge, slot.Size())
	}
	if err == nil {
		err = errors.Join(w.flush(), slot.Sync())
	}
	return n, [32]byte(h.Sum(nil)), err
}

// EraseRoot makes a slot one that has no root file system.
func EraseRoot(slot Device) error {
	_, err := slot.WriteAt(make([]byte, 8*sector), 0)
	return errors.Join(err, slot.Sync())
}

// ReadRoot reads back the first n bytes of a slot, from the medium, into w.
func ReadRoot(slot Device, n int64, w io.Writer) error {
	end := (n + sector - 1) / sector * sector
	_, err := io.Copy(w, io.LimitReader(&sectorReader{dev: slot, end: end}, n))
	return err
}

// CheckRoot checks that a slot begins with the superblock of a squashfs, and that n bytes are all of it. It returns the
// number of bytes that the superblock gives.
func CheckRoot(slot Device, n int64) (int64, error) {
	b, err := readAny(slot, 0, 96)
	if err != nil {
		return 0, err
	}
	used := int64(binary.LittleEndian.Uint64(b[40:]))
	log := binary.LittleEndian.Uint16(b[22:])
	switch {
	case string(b[:4]) != "hsqs":
		return 0, fmt.Errorf("%w: it is no squashfs", ErrNotRoot)
	case binary.LittleEndian.Uint16(b[28:]) != 4 || log < 12 || log > 20 || binary.LittleEndian.Uint32(b[12:]) != 1<<log:
		return 0, fmt.Errorf("%w: its superblock makes no sense", ErrNotRoot)
	case used < 96 || used > n:
		return 0, fmt.Errorf("%w: it should have %d bytes, and %d are there", ErrNotRoot, used, n)
	}
	return used, nil
}
