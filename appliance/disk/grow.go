package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"kdht/appliance/disk/ext4"
	"kdht/appliance/disk/table"
)

// grow extends the partition, which is mounted, and its file system to the end of the
// disk. Whatever fails is said; what is there goes on being used. While saved files wait at its end, it does not grow over them.
func (j *job) grow() {
	if j.waits {
		return
	}
	if err := j.growPartition(); err != nil {
		switch {
		case errors.Is(err, table.ErrDiskTooSmall):
			j.say("The disk is smaller than the image that was written to it: %v.", err)
		default:
			j.say("The partition was not extended to the end of the disk: %v.", err)
		}
	}
	if err := j.growFiles(); err != nil {
		j.say("The file system did not grow: %v.", err)
	}
}

func (j *job) growPartition() error {
	disk, err := os.OpenFile(j.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	whole, err := deviceSize(disk)
	if err != nil {
		return err
	}
	g, err := table.Grow(disk, whole, j.Number)
	if err != nil {
		return err
	}
	partition, err := os.Open(j.Partition)
	if err != nil {
		return err
	}
	defer partition.Close()
	known, err := deviceSize(partition)
	if err != nil {
		return err
	}
	if known >= g.To {
		return nil
	}
	// Of an earlier life of the disk, a note of a rescue may lie there, which is not about this file system.
	if _, err := disk.WriteAt(make([]byte, noteSize), g.Start+notePlace(g.To)); err != nil {
		return err
	}
	if err := disk.Sync(); err != nil {
		return err
	}
	j.log.Info("disk: extending the partition", "table", g.Kind, "from", known, "to", g.To)
	return resizePartition(disk, j.Number, g.Start, g.To)
}

// growFiles has the kernel extend the file system to the partition's end.
func (j *job) growFiles() error {
	const blockSize = 4096
	partition, err := os.Open(j.Partition)
	if err != nil {
		return err
	}
	defer partition.Close()
	room, err := deviceSize(partition)
	if err != nil {
		return err
	}
	before, err := liveSuperblock(partition)
	if err != nil {
		return err
	}
	j.Size, j.GrownFrom, j.GrownTo = before.Size, before.Size, before.Size
	if room/blockSize*blockSize <= before.Size {
		return nil
	}
	start := time.Now()
	if err := resizeFS(j.Mountpoint, uint64(room)/blockSize); err != nil {
		return err
	}
	after, err := liveSuperblock(partition)
	if err != nil {
		return err
	}
	j.Size, j.GrownTo = after.Size, after.Size
	if j.Grown() { // a tail too short for a group of its own stays unused
		j.say("The persistent partition grew from %s to %s to fill the disk.", size(j.GrownFrom), size(j.GrownTo))
		j.log.Info("disk: grown", "from", j.GrownFrom, "to", j.GrownTo, "took", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// liveSuperblock reads the superblock of a mounted file system. The kernel may be changing
// it: until its checksum fits, it is read again.
func liveSuperblock(partition io.ReaderAt) (s *ext4.Superblock, err error) {
	for range 20 {
		if s, err = ext4.ReadSuperblock(partition, 0); !errors.Is(err, ext4.ErrChecksum) {
			return s, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("superblock of the mounted file system: %w", err)
}
