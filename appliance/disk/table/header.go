package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	headerSize = 92
	entrySize  = 128
	entries    = 128
)

// fields are those of a GPT header (UEFI specification 2.10, section 5.3.2), little endian.
type fields struct {
	Signature                [8]byte
	Revision, Size, Checksum uint32
	Reserved                 uint32
	MyLBA, AlternateLBA      uint64
	FirstUsable, LastUsable  uint64
	DiskGUID                 [16]byte
	EntriesLBA               uint64
	Count, EntrySize         uint32
	EntriesChecksum          uint32
}

// header is a GPT header with the entries that it names.
type header struct {
	fields
	entries []byte
}

// readHeader reads and checks the header in a sector of a disk, and its entries.
func readHeader(d Device, lba, sectors uint64) (*header, error) {
	b := make([]byte, sector)
	if _, err := d.ReadAt(b, int64(lba)*sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	var h header
	if _, err := binary.Decode(b, binary.LittleEndian, &h.fields); err != nil {
		return nil, err
	}
	switch {
	case string(h.Signature[:]) != "EFI PART":
		return nil, fmt.Errorf("%w: no GPT header in sector %d", ErrDamaged, lba)
	case h.Revision != 0x10000 || h.Size != headerSize || h.EntrySize != entrySize || h.Count != entries:
		return nil, fmt.Errorf("%w: GPT revision %#x with %d entries of %d bytes", ErrUnknown, h.Revision, h.Count, h.EntrySize)
	}
	sum := h.Checksum
	binary.LittleEndian.PutUint32(b[16:], 0)
	if crc32.ChecksumIEEE(b[:headerSize]) != sum {
		return nil, fmt.Errorf("%w: wrong checksum of the GPT header", ErrDamaged)
	}
	if h.MyLBA != lba || h.EntriesLBA < 2 || h.EntriesLBA >= sectors-arraySectors ||
		h.FirstUsable > h.LastUsable || bytes.Count(b[headerSize:], []byte{0}) != sector-headerSize {
		return nil, fmt.Errorf("%w: GPT header names impossible sectors", ErrDamaged)
	}
	h.entries = make([]byte, entries*entrySize)
	if _, err := d.ReadAt(h.entries, int64(h.EntriesLBA)*sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if crc32.ChecksumIEEE(h.entries) != h.EntriesChecksum {
		return nil, fmt.Errorf("%w: wrong checksum of the GPT entries", ErrDamaged)
	}
	return &h, nil
}

// spans gives the places of the entries; unused ones are zero.
func (h *header) spans() []span {
	all := make([]span, entries)
	for n := range all {
		e := h.entries[n*entrySize:]
		if bytes.Equal(e[:16], make([]byte, 16)) { // type GUID
			continue
		}
		all[n] = span{binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:]) + 1}
	}
	return all
}

func (h *header) setLast(n int, lba uint64) {
	binary.LittleEndian.PutUint64(h.entries[n*entrySize+40:], lba)
}

// encode gives the header's sector, with both checksums.
func (h *header) encode() []byte {
	h.EntriesChecksum = crc32.ChecksumIEEE(h.entries)
	h.Checksum = 0
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, &h.fields) // a buffer does not fail
	h.Checksum = crc32.ChecksumIEEE(b.Bytes())
	binary.LittleEndian.PutUint32(b.Bytes()[16:], h.Checksum)
	return append(b.Bytes(), make([]byte, sector-headerSize)...)
}
