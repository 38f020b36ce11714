package ext4

import (
	"cmp"
	"maps"
	"slices"
)

// names reads every directory and counts the names of every inode.
func (c *checker) names() {
	for _, number := range slices.Sorted(maps.Keys(c.inodes)) {
		u := c.inodes[number]
		if u.mode&modeType != modeDir {
			continue
		}
		i, err := c.v.inode(number)
		if err != nil {
			c.report(Files, "%v", err)
			continue
		}
		list, err := c.v.directory(&i, number)
		if err != nil {
			c.report(Files, "%v", err)
		}
		for _, e := range list {
			target := c.inodes[e.inode]
			if target == nil {
				c.report(Files, "directory %d: %q leads to inode %d, which is not in use", number, e.name, e.inode)
				continue
			}
			target.seen++
		}
	}
	s := &c.v.super
	for _, number := range slices.SortedFunc(maps.Keys(c.inodes), cmp.Compare[uint32]) {
		u := c.inodes[number]
		if number != inoRoot && number < s.FirstIno || number == s.OrphanFileInum {
			continue // has no name
		}
		// A directory with more than 65,000 subdirectories says 1.
		if u.seen != int(u.links) && (u.mode&modeType != modeDir || u.links != 1) {
			c.report(Files, "inode %d has %d names and says %d", number, u.seen, u.links)
		}
	}
	if u := c.inodes[inoRoot]; u == nil || u.mode&modeType != modeDir {
		c.report(Files, "there is no root directory")
	}
}
