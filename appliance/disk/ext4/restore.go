package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
)

// FindSuperblock looks for copies of the superblock of a file system that fills at most
// size bytes, and gives the best: of the file system that most copies agree on, the
// newest. Only copies with a right checksum count. The error wraps [ErrNoSuperblock]
// if there is none; a file system of less than 128 MiB has no copy.
func FindSuperblock(r io.ReaderAt, size int64) (*Superblock, error) {
	var found []*Superblock
	votes := map[[16]byte]int{}
	for g := int64(1); g*blocksPerGroup*blockSize < size; g++ {
		if !hasSuper(uint64(g)) {
			continue
		}
		if s, err := ReadSuperblock(r, int(g)); err == nil && s.Size <= size {
			found = append(found, s)
			votes[s.UUID]++
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no intact copy: %w", ErrNoSuperblock)
	}
	best := found[0]
	for _, s := range found[1:] {
		switch {
		case votes[s.UUID] != votes[best.UUID]:
			if votes[s.UUID] > votes[best.UUID] {
				best = s
			}
		case s.raw.Wtime > best.raw.Wtime, s.raw.Wtime == best.raw.Wtime && s.Size > best.Size:
			best = s
		}
	}
	return best, nil
}

// RestoreSuperblock writes a copy in the place of the primary superblock. The copy does
// not know of the journal's contents, so that is looked up, and the kernel will replay it.
// The result says that it has errors until [ClearErrors].
func RestoreSuperblock(d Device, s *Superblock) error {
	raw := s.raw
	raw.BlockGroupNr = 0
	raw.LastOrphan = 0
	raw.State = stateError
	pending, err := journalPending(d, raw)
	if err != nil {
		return err
	}
	if pending {
		raw.FeatureIncompat |= incompatRecover
	}
	return writeSuperblock(d, &raw)
}

// ClearErrors takes back the note of errors in the superblock of a file system that
// [Check] found sound.
func ClearErrors(d Device) error {
	s, err := ReadSuperblock(d, 0)
	if err != nil {
		return err
	}
	raw := s.raw
	raw.State = raw.State&^stateError | stateClean
	raw.ErrorCount = 0
	raw.FirstErrorTime, raw.FirstErrorIno, raw.FirstErrorBlock, raw.FirstErrorLine = 0, 0, 0, 0
	raw.LastErrorTime, raw.LastErrorIno, raw.LastErrorBlock, raw.LastErrorLine = 0, 0, 0, 0
	raw.FirstErrorFunc, raw.LastErrorFunc = [32]byte{}, [32]byte{}
	raw.FirstErrorErrcode, raw.LastErrorErrcode = 0, 0
	raw.TimesHi[4], raw.TimesHi[5] = 0, 0
	return writeSuperblock(d, &raw)
}

// NotedErrors says whether the kernel, or [RestoreSuperblock], noted errors that were not
// cleared.
func (s *Superblock) NotedErrors() bool { return s.raw.State&stateError != 0 || s.Errors > 0 }

func writeSuperblock(d Device, raw *superblock) error {
	if _, err := d.WriteAt(raw.encode(), superOffset); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	return nil
}

// journalPending says whether the journal holds transactions. Its place is in the superblock too.
func journalPending(r io.ReaderAt, raw superblock) (bool, error) {
	if raw.FeatureCompat&compatJournal == 0 {
		return false, nil
	}
	v := &volume{r: r, super: raw, seed: raw.seed()}
	i := inode{Flags: inodeExtents}
	for n := range 15 {
		binary.LittleEndian.PutUint32(i.Block[4*n:], raw.JnlBlocks[n])
	}
	all, err := v.extents(&i, inoJournal, nil)
	if err != nil || len(all) == 0 {
		return false, fmt.Errorf("find the journal: %w", err)
	}
	b, err := v.block(all[0].start)
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	if binary.BigEndian.Uint32(b) != journalMagic {
		return false, fmt.Errorf("read the journal: %w", ErrNoSuperblock)
	}
	return binary.BigEndian.Uint32(b[28:]) != 0, nil
}
