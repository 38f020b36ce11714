package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

const (
	sector     = 512
	gptEntries = 32 * sector
)

var errTable = errors.New("not gokrazy's partition tables")

// partitions are where those of an image begin and end, in sectors; the end is exclusive.
var partitions = [4][2]uint64{
	{BootOffset / sector, RootOffset / sector},
	{RootOffset / sector, (RootOffset + RootSize) / sector},
	{(RootOffset + RootSize) / sector, PermOffset / sector},
	{PermOffset / sector, (PermOffset + PermSize) / sector},
}

// tables makes the partition tables of an image of gokrazy's: the master boot record, in which the boot partition has its
// place for firmware that knows no GPT, the GPT behind it, and its copy at the end of the disk. The IDs of disk and
// partitions stay what they are. head is the beginning of gokrazy's image.
func tables(head []byte) (front, back []byte, err error) {
	le := binary.LittleEndian
	front = bytes.Clone(head[:2*sector+gptEntries])
	mbr, header, entries := front[:sector], front[sector:2*sector], front[2*sector:]
	if mbr[446+4] != 0x0c || mbr[446+16+4] != 0xee || string(header[:8]) != "EFI PART" || le.Uint64(entries[32:]) != BootOffset/sector {
		return nil, nil, errTable
	}
	le.PutUint32(mbr[446+8:], BootOffset/sector)
	le.PutUint32(mbr[446+12:], BootSize/sector)
	for i, p := range partitions {
		e := entries[128*i:]
		le.PutUint64(e[32:], p[0])
		le.PutUint64(e[40:], p[1]-1)
	}
	const last = ImageSize/sector - 1
	seal := func(header []byte, own, other, at uint64) {
		le.PutUint64(header[24:], own)
		le.PutUint64(header[32:], other)
		le.PutUint64(header[40:], 34)      // first usable sector
		le.PutUint64(header[48:], last-33) // last usable sector
		le.PutUint64(header[72:], at)
		le.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(header[16:], 0)
		le.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	}
	backup := bytes.Clone(header)
	seal(header, 1, last, 2)
	seal(backup, last, 1, last-32)
	return front, append(bytes.Clone(entries), backup...), nil
}
