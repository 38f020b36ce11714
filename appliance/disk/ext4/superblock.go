package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"
)

const (
	superOffset = 1024 // bytes from the beginning of the file system
	superSize   = 1024
	superMagic  = 0xef53
	blockSize   = 4096

	stateClean = 1
	stateError = 2
)

// Feature bits: what is here is what this package can read.
const (
	compatJournal     = 0x4
	compatExtAttr     = 0x8
	compatResizeInode = 0x10
	compatDirIndex    = 0x20
	compatSparse2     = 0x200
	compatOrphanFile  = 0x1000

	incompatFiletype = 0x2
	incompatRecover  = 0x4
	incompatMetaBG   = 0x10
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatFlexBG   = 0x200
	incompatCsumSeed = 0x2000

	roSparseSuper   = 0x1
	roLargeFile     = 0x2
	roHugeFile      = 0x8
	roDirNlink      = 0x20
	roExtraIsize    = 0x40
	roMetadataCsum  = 0x400
	roOrphanPresent = 0x10000
)

// Errors of superblocks.
var (
	// ErrNoSuperblock means that there is no ext4 superblock at that place.
	ErrNoSuperblock = errors.New("no ext4 superblock")
	// ErrChecksum means that a checksum is wrong.
	ErrChecksum = errors.New("wrong checksum")
	// ErrUnsupported means that the file system uses a feature that this package does not know.
	ErrUnsupported = errors.New("unsupported ext4 feature")
	// ErrGeometry means that the sizes in a superblock contradict each other or the device.
	ErrGeometry = errors.New("impossible ext4 geometry")
)

// Superblock is what the rest of the box wants to know of a file system.
type Superblock struct {
	UUID  [16]byte
	Label string
	// Size is the size of the file system in bytes.
	Size int64
	// Group is the block group that this copy was read from; 0 is the primary.
	Group int
	// Errors counts the errors that the kernel recorded; LastError says where and when.
	Errors    uint32
	LastError string
	// Clean says that the file system was unmounted in order or has no journal to replay.
	Clean bool

	raw superblock
}

// ReadSuperblock reads the superblock whose file system begins at byte 0 of r, and of
// which the copy in the given block group is wanted. Errors wrap [ErrNoSuperblock],
// [ErrChecksum], [ErrUnsupported], [ErrGeometry], or come from r.
func ReadSuperblock(r io.ReaderAt, group int) (*Superblock, error) {
	off := int64(group) * blocksPerGroup * blockSize
	if group == 0 {
		off = superOffset
	}
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("read superblock of group %d: %w", group, err)
	}
	return parseSuperblock(b, group)
}

func parseSuperblock(b []byte, group int) (*Superblock, error) {
	var raw superblock
	if _, err := binary.Decode(b, binary.LittleEndian, &raw); err != nil {
		return nil, err
	}
	if raw.Magic != superMagic {
		return nil, ErrNoSuperblock
	}
	if raw.FeatureRoCompat&roMetadataCsum == 0 {
		// Either it has no checksum, or the bit that says so was lost, and it has one of itself with that bit.
		whole := raw
		whole.FeatureRoCompat |= roMetadataCsum
		if !bytes.Equal(whole.encode()[superSize-4:], b[superSize-4:]) {
			return nil, fmt.Errorf("%w: no metadata checksums", ErrUnsupported)
		}
	}
	if raw.Checksum != crc(^uint32(0), b[:superSize-4]) {
		return nil, fmt.Errorf("superblock of group %d: %w", group, ErrChecksum)
	}
	if err := raw.check(group); err != nil {
		return nil, err
	}
	s := &Superblock{
		UUID: raw.UUID, Label: text(raw.VolumeName[:]), Size: int64(raw.blocks()) * blockSize, Group: group,
		Errors: raw.ErrorCount, raw: raw,
		Clean: raw.FeatureIncompat&incompatRecover == 0 && raw.State&stateClean != 0,
	}
	if raw.ErrorCount > 0 {
		s.LastError = fmt.Sprintf("%s:%d at %s", text(raw.LastErrorFunc[:]), raw.LastErrorLine,
			time.Unix(int64(raw.LastErrorTime), 0).UTC().Format(time.RFC3339))
	}
	return s, nil
}

// check refuses what the rest of the package could not walk safely.
func (s *superblock) check(group int) error {
	compat := uint32(compatJournal | compatExtAttr | compatResizeInode | compatDirIndex | compatOrphanFile)
	incompat := uint32(incompatFiletype | incompatRecover | incompatExtents | incompat64Bit | incompatFlexBG |
		incompatCsumSeed | incompatMetaBG)
	ro := uint32(roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraIsize | roMetadataCsum | roOrphanPresent)
	if c, i, r := s.FeatureCompat&^compat, s.FeatureIncompat&^incompat, s.FeatureRoCompat&^ro; c|i|r != 0 {
		return fmt.Errorf("%w: compat %#x, incompat %#x, ro_compat %#x", ErrUnsupported, c, i, r)
	}
	const needed = incompatFiletype | incompatExtents | incompat64Bit
	if s.FeatureIncompat&needed != needed || s.FeatureRoCompat&roSparseSuper == 0 {
		return fmt.Errorf("%w: not made as this package makes file systems", ErrUnsupported)
	}
	groups := s.groups()
	switch {
	case s.LogBlockSize != 2 || s.LogClusterSize != 2 || s.FirstDataBlock != 0 ||
		s.BlocksPerGroup != blocksPerGroup || s.ClustersPerGroup != blocksPerGroup:
		return fmt.Errorf("%w: block size", ErrUnsupported)
	case s.InodeSize != inodeSize || s.DescSize != descSize || s.ChecksumType != 1:
		return fmt.Errorf("%w: inode or descriptor size", ErrUnsupported)
	case s.blocks() < minBlocks || s.blocks() > maxBlocks,
		s.InodesPerGroup < 16 || s.InodesPerGroup > blockSize*8 || s.InodesPerGroup%16 != 0,
		uint64(s.InodesCount) != groups*uint64(s.InodesPerGroup),
		uint64(s.BlockGroupNr) != uint64(group) && group != 0,
		uint64(group) >= groups,
		s.ReservedGdtBlocks > blockSize/4,
		s.FirstIno < 11 || s.FirstIno > s.InodesPerGroup:
		return fmt.Errorf("superblock of group %d: %w", group, ErrGeometry)
	}
	return nil
}

// encode gives the superblock's bytes, with its checksum.
func (s *superblock) encode() []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, s) // a buffer does not fail
	s.Checksum = crc(^uint32(0), b.Bytes()[:superSize-4])
	binary.LittleEndian.PutUint32(b.Bytes()[superSize-4:], s.Checksum)
	return b.Bytes()
}

func (s *superblock) blocks() uint64 { return uint64(s.BlocksCountHi)<<32 | uint64(s.BlocksCountLo) }

// groups is the number of block groups; the last may be shorter than the others.
func (s *superblock) groups() uint64 { return (s.blocks() + blocksPerGroup - 1) / blocksPerGroup }

// descBlocks is the number of blocks that the group descriptors fill.
func (s *superblock) descBlocks() uint64 { return (s.groups() + descPerBlock - 1) / descPerBlock }

// tableBlocks is the number of blocks of a group's inode table.
func (s *superblock) tableBlocks() uint64 { return uint64(s.InodesPerGroup) * inodeSize / blockSize }

// blocksIn is the number of blocks in a group.
func (s *superblock) blocksIn(group uint64) uint64 {
	return min(blocksPerGroup, s.blocks()-group*blocksPerGroup)
}

// seed begins every checksum of the file system's metadata.
func (s *superblock) seed() uint32 {
	if s.FeatureIncompat&incompatCsumSeed != 0 {
		return s.ChecksumSeed
	}
	return crc(^uint32(0), s.UUID[:])
}

// hasSuper says whether a group begins with a copy of the superblock: groups 0 and 1
// and the powers of 3, 5 and 7.
func hasSuper(group uint64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc is CRC32c as ext4 uses it: without the final complement, so that sums can be continued.
func crc(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

func crc32le(seed, v uint32) uint32 { return crc(seed, binary.LittleEndian.AppendUint32(nil, v)) }

func text(b []byte) string { return strings.ToValidUTF8(string(bytes.TrimRight(b, "\x00")), "?") }
