package bootdisk

import "fmt"

const (
	// maxReserved is the most sectors that a FAT16 can have before its root directory: the number of reserved ones has 16
	// bits, and gokrazy's init, which looks for the command line there, adds the table's to it in 16 bits.
	maxReserved = 1<<16 - 1
	// minClusters and maxClusters bound a FAT16; with less it would be a FAT12 to whoever reads it.
	minClusters, maxClusters = 4085, 65524
	// maxCluster is the largest cluster that everybody understands, in sectors.
	maxCluster = 64
	// alignment of the table, in sectors: a multiple of any cluster, because the firmware of the Raspberry Pi 3 reads nothing else
	// (gokrazy's packer does the same).
	alignment = maxCluster
	// head is how many sectors before a table hold the copy of its boot sector and its card, and at the beginning of the
	// partition belong to the boot sector.
	head = 4
)

// extent is a range of a partition in bytes; to is exclusive.
type extent struct{ from, to int64 }

func (e extent) overlaps(o extent) bool { return e.from < o.to && o.from < e.to }

// metadata is where a file system has its card, its table and its root directory.
func (f *fat) metadata() extent { return extent{f.start() - head*sector, f.data} }

// territory is where a file system has files, or may put some.
func (f *fat) territory() extent { return extent{f.offset(f.lowest()), f.offset(f.clusters + 2)} }

// used is where it has files.
func (f *fat) used() extent { return extent{f.offset(f.lowest()), f.end()} }

// lowest is the first cluster that the file system may use: those before it lie where another one is, and are marked as bad.
func (f *fat) lowest() uint32 {
	for c := uint32(2); c < f.clusters+2; c++ {
		if !f.bad(c) {
			return c
		}
	}
	return f.clusters + 2
}

// site is where a FAT16 goes, and what it looks like there.
type site struct {
	reserved, table, root int    // sectors before the table, of the table, of the root directory
	cluster               int64  // bytes
	clusters              uint32 // of which those before first belong to others
	first                 uint32
}

func (s site) data() int64           { return int64(s.reserved+s.table+s.root) * sector }
func (s site) offset(c uint32) int64 { return s.data() + int64(c-2)*s.cluster }
func (s site) within(e ...extent) bool {
	return !overlap(extent{int64(s.reserved-head) * sector, s.data()}, e)
}

func overlap(e extent, others []extent) bool {
	for _, o := range others {
		if e.overlaps(o) {
			return true
		}
	}
	return false
}

// place chooses where a file system goes beside the one in force: its table and root directory within the first 32 MiB, which
// is as far as a boot sector can point, its files anywhere behind them. need tells how many bytes the files take in clusters of
// a size, and cluster is the smallest size to be considered. Where there is room it keeps away from all that the one in force
// may ever write to, otherwise from what it has written.
func place(now *fat, need func(cluster int64) int64, root int, cluster, size int64) (site, error) {
	for _, files := range []extent{now.territory(), now.used()} {
		taken := []extent{{0, head * sector}, now.metadata(), files}
		for c := cluster; c <= maxCluster*sector; c *= 2 {
			if s, ok := fit(taken, need(c), root, c, size); ok {
				return s, nil
			}
		}
	}
	return site{}, fmt.Errorf("%w: %d KiB more are needed in a partition of %d KiB, and the one in force has its files up to %d KiB",
		ErrNoRoom, need(cluster)>>10, size>>10, now.end()>>10)
}

// smallest is the smallest size of clusters for files with clusters of a size: in a large partition such that a FAT16 can fill
// half of it.
func smallest(cluster, size int64) int64 {
	for size/2 > maxClusters*cluster && cluster < maxCluster*sector {
		cluster *= 2
	}
	return cluster
}

// tableOf gives the sectors of a table for all clusters of a partition, such that after a root directory clusters begin at
// multiples of 4 KiB.
func tableOf(cluster, size int64, root int) int {
	table := int((2*(min(size/cluster, maxClusters)+2) + sector - 1) / sector)
	return table + (8-(table+root)%8)%8
}

// fit looks for a place for clusters of one size.
func fit(taken []extent, need int64, root int, cluster, size int64) (s site, ok bool) {
	up := func(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
	s = site{root: root, cluster: cluster, table: tableOf(cluster, size, root)}
	for s.reserved = alignment; !s.within(taken...); s.reserved += alignment {
		if s.reserved+s.table > maxReserved {
			return s, false
		}
	}
	if s.reserved+s.table > maxReserved {
		return s, false
	}
	reach := min(size, s.data()+maxClusters*cluster)
	starts := []int64{s.data()}
	for _, t := range taken {
		starts = append(starts, max(t.to, s.data()))
	}
	best := int64(-1)
	for _, from := range starts {
		from = s.data() + up(from-s.data(), cluster)
		if from+need <= reach && (best < 0 || from < best) && !overlap(extent{from, from + need}, taken) {
			best = from
		}
	}
	if best < 0 {
		return s, false
	}
	end := reach
	for _, t := range taken {
		if t.from >= best+need {
			end = min(end, t.from)
		}
	}
	s.first = uint32((best-s.data())/cluster) + 2
	s.clusters = uint32((end - s.data()) / cluster)
	return s, s.clusters >= minClusters
}
