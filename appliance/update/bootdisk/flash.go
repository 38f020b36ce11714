package bootdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Where the first boot file system of a disk goes.
const (
	// flashReserved sectors before its table, 512 KiB, are for the table of the next one.
	flashReserved = 1024
	// flashEntries is how many entries its root directory has at least.
	flashEntries = 512
)

// Flash writes the first boot file system of a disk: the image gets the first half of the boot partition, free space included,
// and leaves before its table room for that of the one that an update will place in the other half. If the disk has boot
// code, that gets to know where kernel and command line are.
func (d *Disk) Flash(image io.Reader) error {
	in, err := readImage(image)
	if err != nil {
		return err
	}
	size := d.Boot.Size()
	s := site{
		reserved: flashReserved, root: max(in.rootSectors(spareEntries), flashEntries*entrySize/sector),
		cluster: smallest(in.cluster, size), first: 2,
	}
	s.table = tableOf(s.cluster, size, s.root)
	s.clusters = uint32(min((size/2-s.data())/s.cluster, maxClusters))
	if s.clusters < minClusters || s.offset(2)+in.size(s.cluster) > s.offset(s.clusters+2) {
		return fmt.Errorf("%w: %d KiB in half of a partition of %d KiB", ErrNoRoom, in.size(s.cluster)>>10, size>>10)
	}
	f, err := lay(d.Boot, s, in, image)
	if err != nil {
		return err
	}
	mbr, err := readAny(d.Whole, 0, sector)
	if err != nil {
		return err
	}
	if hasCode(mbr) {
		if err := d.pointCode(f, mbr); err != nil {
			return err
		}
		if _, err := d.Whole.WriteAt(mbr, 0); err != nil {
			return err
		}
	}
	_, err = d.Boot.WriteAt(f.boot, 0)
	return errors.Join(err, d.Boot.Sync(), d.Whole.Sync())
}

// hasCode says whether a master boot record has boot code of gokrazy's.
func hasCode(mbr []byte) bool { return mbr[0] != 0 }

// pointCode has boot code point to kernel and command line of a file system.
func (d *Disk) pointCode(f *fat, code []byte) error {
	for path, at := range map[string]int{kernelFile: codeKernel, cmdlineFile: codeCmdline} {
		x, err := f.find(path)
		if err != nil {
			return err
		}
		list, err := f.chain(x.first)
		if err != nil {
			return err
		}
		if len(list) == 0 || list[len(list)-1] != x.first+uint32(len(list))-1 {
			return fmt.Errorf("%w: %s is not in one piece", ErrBootImage, path)
		}
		binary.LittleEndian.PutUint32(code[at:], uint32((d.Start+f.offset(x.first))/sector))
	}
	return nil
}
