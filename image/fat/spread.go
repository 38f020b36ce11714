package fat

import (
	"encoding/binary"
	"fmt"
)

// rootEntries is how many directory entries the root of a spread file system has.
const rootEntries = 512

// reach is where a spread file system ends at most, in bytes, if its files leave [spare] in it: behind it an update places
// another one with another kernel, and a FAT can begin up to sector 65535 of its partition. See package
// appliance/update/bootdisk.
const (
	reach = 31 << 20
	spare = 4 << 20
)

// Spread returns the file system with space for more files instead of none that is free, and a label: its part in use, up to
// which the rest of the partition of size bytes may hold anything. It takes the whole partition only if its files are too
// large for an update to place another one behind it. moved is by how many sectors the contents of the files have moved.
func Spread(compact FS, size int) (spread FS, moved int, err error) {
	old, err := compact.layout()
	if err != nil {
		return nil, 0, err
	}
	if len(compact) < old.total*sector {
		return nil, 0, fmt.Errorf("%w: %d sectors in %d bytes", ErrFormat, old.total, len(compact))
	}
	if old.total*sector+spare <= reach {
		size = min(size, reach)
	}
	clusters := min((size/sector-old.reserved)/old.perCluster, maxCluster)
	l := old
	l.total = size / sector
	l.table = max(old.table, ((clusters+2)*2+sector-1)/sector)
	l.root = max(old.root, rootEntries*entrySize/sector)
	used := old.total - old.dataStart()
	if l.dataStart()+used > l.total {
		return nil, 0, fmt.Errorf("%w: it does not fit into %d bytes", ErrFormat, size)
	}
	spread = make(FS, (l.dataStart()+used)*sector)
	copy(spread, compact.part(0, old.reserved))
	copy(spread.part(l.reserved, l.table), compact.part(old.reserved, old.table))
	copy(spread.part(l.rootStart(), l.root), compact.part(old.rootStart(), old.root))
	copy(spread.part(l.dataStart(), used), compact.part(old.dataStart(), used))

	binary.LittleEndian.PutUint16(spread[17:], uint16(l.root*sector/entrySize))
	binary.LittleEndian.PutUint16(spread[22:], uint16(l.table))
	binary.LittleEndian.PutUint32(spread[32:], uint32(l.total))
	copy(spread[43:54], label)
	err = spread.walk(func(e entry) error {
		if e.attr()&attrVolume != 0 {
			copy(e.raw, label)
		}
		return nil
	})
	return spread, l.dataStart() - old.dataStart(), err
}

// Trim returns the file system without what lies behind its last sector.
func (fs FS) Trim() (FS, error) {
	l, err := fs.layout()
	if err != nil {
		return nil, err
	}
	if len(fs) < l.total*sector {
		return nil, fmt.Errorf("%w: %d sectors in %d bytes", ErrFormat, l.total, len(fs))
	}
	return fs[:l.total*sector], nil
}
