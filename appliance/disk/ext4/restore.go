package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// FindSuperblock looks for copies of the superblock of a file system that fills at most
// size bytes, and gives the first: the kernel brings them up to date in their order when a file system grows, and those
// behind the end of a small one may be of an earlier life of the device. What is left of the primary decides first, if it
// has a name: a copy that has the same comes before one that has not, which counts where the name itself is damaged.
// Only copies with a right checksum count. The error wraps [ErrNoSuperblock]
// if there is none; a file system of less than 128 MiB has no copy.
func FindSuperblock(r io.ReaderAt, size int64) (*Superblock, error) {
	name, named := nameOf(r)
	var first *Superblock
	for g := int64(1); g*blocksPerGroup*blockSize < size; g++ {
		if !hasSuper(uint64(g)) {
			continue
		}
		s, err := ReadSuperblock(r, int(g))
		if err != nil || s.Size > size {
			continue
		}
		if !named || s.UUID == name {
			return s, nil
		}
		if first == nil {
			first = s
		}
	}
	if first == nil {
		return nil, fmt.Errorf("no intact copy: %w", ErrNoSuperblock)
	}
	return first, nil
}

// nameOf gives the UUID in what is left of the primary superblock; named is false if it does not look like one.
func nameOf(r io.ReaderAt) (uuid [16]byte, named bool) {
	b := make([]byte, superSize)
	var raw superblock
	if _, err := r.ReadAt(b, superOffset); err != nil {
		return uuid, false
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &raw); err != nil {
		return uuid, false
	}
	return raw.UUID, raw.Magic == superMagic
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

// journalPlace finds the journal's first block, and its size in blocks: the superblock
// has a copy of the journal inode's map.
func journalPlace(r io.ReaderAt, raw superblock) (first, blocks uint64, err error) {
	v := &volume{r: r, super: raw, seed: raw.seed()}
	i := inode{Flags: inodeExtents}
	for n := range 15 {
		binary.LittleEndian.PutUint32(i.Block[4*n:], raw.JnlBlocks[n])
	}
	all, err := v.extents(&i, inoJournal, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("find the journal: %w", err)
	}
	for _, x := range all {
		blocks += x.count
	}
	if blocks < 1024 || all[0].file != 0 {
		return 0, 0, fmt.Errorf("find the journal: %w", ErrGeometry)
	}
	return all[0].start, blocks, nil
}

// journalPending says whether the journal holds transactions; one that is damaged may.
func journalPending(r io.ReaderAt, raw superblock) (bool, error) {
	if raw.FeatureCompat&compatJournal == 0 {
		return false, nil
	}
	place, _, err := journalPlace(r, raw)
	if err != nil {
		return false, err
	}
	b := make([]byte, blockSize)
	if _, err := r.ReadAt(b, int64(place)*blockSize); err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	return binary.BigEndian.Uint32(b) != journalMagic || binary.BigEndian.Uint32(b[28:]) != 0, nil
}

// journalSuperblock gives the first block of an empty journal (big endian) whose first
// transaction has the given number. What is left of an earlier one must not have numbers
// that follow.
func journalSuperblock(uuid [16]byte, blocks uint64, sequence uint32) []byte {
	b := make([]byte, blockSize)
	be := binary.BigEndian
	be.PutUint32(b[0:], journalMagic)
	be.PutUint32(b[4:], 4) // a superblock of version 2
	be.PutUint32(b[12:], blockSize)
	be.PutUint32(b[16:], uint32(blocks))
	be.PutUint32(b[20:], 1) // first block of the log
	be.PutUint32(b[24:], sequence)
	copy(b[48:], uuid[:])
	be.PutUint32(b[64:], 1) // users
	return b
}

// JournalIntact says whether the kernel would accept the journal of a file system with
// nothing to replay.
func JournalIntact(r io.ReaderAt) bool {
	s, err := ReadSuperblock(r, 0)
	if err != nil {
		return false
	}
	pending, err := journalPending(r, s.raw)
	return err == nil && !pending
}

// Pending says whether the journal must be replayed, which the kernel does when it mounts.
func (s *Superblock) Pending() bool { return s.raw.FeatureIncompat&incompatRecover != 0 }

// ResetJournal gives up what the journal holds. The file system must be checked then.
func ResetJournal(d Device) error {
	s, err := ReadSuperblock(d, 0)
	if err != nil {
		return err
	}
	place, blocks, err := journalPlace(d, s.raw)
	if err != nil {
		return err
	}
	if _, err := d.WriteAt(journalSuperblock(s.UUID, blocks, uint32(time.Now().Unix())), int64(place)*blockSize); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	raw := s.raw
	raw.FeatureIncompat &^= incompatRecover
	return writeSuperblock(d, &raw)
}
