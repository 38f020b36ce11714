package bootdisk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A boot file system that this package placed or has replaced keeps, in the last sectors before its first table, a copy
// of its boot sector and a card with the boot code that belongs to it. Selecting the file system means to copy the one to
// the beginning of the partition, and the other to the beginning of the disk.
const (
	bootCopy = -3 // sectors before the first table
	cardAt   = -2
)

// codeSize is the boot code in the master boot record. The disk's signature and the partition table behind it stay what
// they are.
const codeSize = 440

// Places in gokrazy's boot code: where kernel and command line lie, in sectors of the disk.
const (
	codeKernel  = 432
	codeCmdline = 436
)

var cardMagic = []byte("KDHT boot card 1")

// card is what is known of a boot file system beside its boot sector.
type card struct {
	code [codeSize]byte // boot code; zero if there is none
	prev int            // sectors reserved before the boot file system that was in force before this one; 0: none
	// sum is the SHA-256 of the file system, its table, root directory and files, when it was last written to. What is in
	// force does not know of the other one, and may put files where that lies.
	sum [sha256.Size]byte
}

// ErrNoCard says that at a place there is no boot file system that could be put in force.
var ErrNoCard = errors.New("no boot file system there")

// header reads the boot sector and the card of the boot file system whose tables begin after so many sectors.
func header(boot Device, reserved int) (bpb []byte, c card, err error) {
	if reserved < 4 {
		return nil, card{}, ErrNoCard
	}
	b, err := readAny(boot, int64(reserved+bootCopy)*sector, 2*sector)
	if err != nil {
		return nil, card{}, err
	}
	bpb, b = b[:sector], b[sector:]
	if !bytes.HasPrefix(b, cardMagic) || binary.LittleEndian.Uint32(b[16:]) != crc32.ChecksumIEEE(append(bytes.Clone(bpb), b[20:]...)) {
		return nil, card{}, ErrNoCard
	}
	c.prev = int(binary.LittleEndian.Uint16(b[20:]))
	copy(c.sum[:], b[24:])
	copy(c.code[:], b[64:])
	f, err := parseBoot(bpb)
	if err != nil {
		return nil, card{}, err
	}
	if f.reserved != reserved {
		return nil, card{}, fmt.Errorf("%w: its boot sector belongs elsewhere", ErrNoCard)
	}
	return bpb, c, nil
}

// sum gives the sum for a card.
func (d *Disk) sum(f *fat) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	files := f.used()
	for _, part := range []extent{{f.start(), f.data}, files} {
		if _, err := io.Copy(h, &sectorReader{dev: d.Boot, off: part.from, end: part.to}); err != nil {
			return sum, err
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// intact says whether a boot file system that is not in force is as it was: a kernel that proved well in a trial does not
// show whether the boot loader beside it is still there.
func (d *Disk) intact(reserved int) error {
	_, c, err := header(d.Boot, reserved)
	if err != nil {
		return err
	}
	f, err := readFAT(d.Boot, int64(reserved+bootCopy)*sector)
	if err != nil {
		return err
	}
	switch sum, err := d.sum(f); {
	case err != nil:
		return err
	case sum != c.sum:
		return fmt.Errorf("%w: it was written over", ErrNoCard)
	}
	return nil
}

// writeHeader writes both.
func writeHeader(boot Device, reserved int, bpb []byte, c card) error {
	b := make([]byte, 2*sector)
	copy(b, bpb)
	k := b[sector:]
	copy(k, cardMagic)
	binary.LittleEndian.PutUint16(k[20:], uint16(c.prev)) // sectors reserved before a FAT are 16 bits
	copy(k[24:], c.sum[:])
	copy(k[64:], c.code[:])
	binary.LittleEndian.PutUint32(k[16:], crc32.ChecksumIEEE(append(bytes.Clone(bpb), k[20:]...)))
	_, err := boot.WriteAt(b, int64(reserved+bootCopy)*sector)
	return err
}
