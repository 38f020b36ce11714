package ext4

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options say what [Format] makes.
type Options struct {
	// Offset is where the file system begins on the device, in bytes.
	Offset int64
	// Size is the room for the file system in bytes, at least 16 MiB, at most 16 TiB.
	// A tail too short to be of use is left over.
	Size int64
	// UUID identifies the file system; the kernel mixes it into every checksum.
	UUID [16]byte
	// Label is the volume name, at most 16 bytes.
	Label string
	// Time is when the file system says it was made.
	Time time.Time
}

// ErrSize means that a file system of that size cannot be made.
var ErrSize = errors.New("impossible size for an ext4 file system")

const (
	inodesPerGroup = 1024 // one per 128 KiB: the partition holds few files, and some are large
	reservedBlocks = 256  // for descriptors of 2 TiB more
	lostFoundSize  = 4    // blocks
)

// Format writes an empty file system to w: the root directory, lost+found, a journal.
//
// Everything that is not written and matters is zeroed, so old contents of the device do
// no harm; inode tables are left to the kernel, which zeroes them after mounting. The
// primary superblock is erased first and written last, with a flush before, so
// an interrupted Format leaves no file system that looks whole. w is flushed if it has
// a method Sync, as *os.File does. The same options give the same bytes.
func Format(w io.WriterAt, o Options) error {
	f, err := plan(w, o)
	if err != nil {
		return err
	}
	if err := f.write(); err != nil {
		return fmt.Errorf("format ext4: %w", err)
	}
	return nil
}

type formatter struct {
	w      io.WriterAt
	offset int64
	super  superblock
	seed   uint32
	groups []groupDesc

	// Blocks of group 0 behind its inode table.
	root, lostFound, resize, journal uint64
	journalBlocks                    uint64
	used                             uint64 // blocks of group 0 in use
}

// plan decides where everything goes.
func plan(w io.WriterAt, o Options) (*formatter, error) {
	blocks := uint64(o.Size) / blockSize
	if o.Size < 0 || blocks < minBlocks || blocks > maxBlocks {
		return nil, fmt.Errorf("%w: %d bytes, must be %d to %d", ErrSize, o.Size, int64(minBlocks)*blockSize, int64(maxBlocks)*blockSize)
	}
	if len(o.Label) > 16 {
		return nil, fmt.Errorf("label %q is longer than 16 bytes", o.Label)
	}
	f := &formatter{w: w, offset: o.Offset, super: newSuperblock(o)}
	s := &f.super
	f.setBlocks(blocks)
	// A last group that could hold little more than its own metadata is left out.
	last := s.groups() - 1
	if n := s.blocksIn(last); last > 0 && n < f.overhead(last)+64 {
		f.setBlocks(blocks - n)
	}
	f.seed = s.seed()
	f.journalBlocks = 16 << 20 / blockSize
	if o.Size < 128<<20 {
		f.journalBlocks = 4 << 20 / blockSize
	}
	f.root = f.overhead(0)
	f.lostFound = f.root + 1
	f.resize = f.lostFound + lostFoundSize
	f.journal = f.resize + 1
	f.used = f.journal + f.journalBlocks
	f.describe()
	return f, nil
}

func newSuperblock(o Options) superblock {
	seconds := uint32(o.Time.Unix())
	s := superblock{
		LogBlockSize: 2, LogClusterSize: 2, BlocksPerGroup: blocksPerGroup, ClustersPerGroup: blocksPerGroup,
		InodesPerGroup: inodesPerGroup, Wtime: seconds, Lastcheck: seconds, MkfsTime: seconds,
		MaxMntCount: 0xffff, Magic: superMagic, State: stateClean,
		Errors:   2, // the kernel turns to read-only rather than spread a damage; the next boot mends it
		RevLevel: 1, FirstIno: inoLostFound, InodeSize: inodeSize,
		FeatureCompat:   compatJournal | compatExtAttr | compatResizeInode | compatDirIndex,
		FeatureIncompat: incompatFiletype | incompatExtents | incompat64Bit | incompatFlexBG,
		FeatureRoCompat: roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraIsize | roMetadataCsum,
		UUID:            o.UUID, ReservedGdtBlocks: reservedBlocks, JournalInum: inoJournal,
		DefHashVersion: 1, JnlBackupType: 1, DescSize: descSize,
		DefaultMountOpts: 0xc, // user_xattr, acl
		MinExtraIsize:    32, WantExtraIsize: 32,
		Flags:            1, // directory hashes of signed characters
		LogGroupsPerFlex: 4, ChecksumType: 1,
	}
	copy(s.VolumeName[:], o.Label)
	hash := sha256.Sum256(append([]byte("directory hash seed "), o.UUID[:]...))
	copy(s.HashSeed[:], hash[:])
	return s
}

func (f *formatter) setBlocks(n uint64) {
	f.super.BlocksCountLo, f.super.BlocksCountHi = uint32(n), uint32(n>>32)
	f.super.InodesCount = uint32(f.super.groups()) * inodesPerGroup
}

// overhead is the number of blocks at the beginning of a group that its metadata fills.
func (f *formatter) overhead(group uint64) uint64 {
	return f.bitmaps(group) - group*blocksPerGroup + 2 + f.super.tableBlocks()
}

// bitmaps is the block of a group's block bitmap. The inode bitmap and the inode table follow it.
func (f *formatter) bitmaps(group uint64) uint64 {
	at := group * blocksPerGroup
	if hasSuper(group) {
		at += 1 + f.super.descBlocks() + reservedBlocks
	}
	return at
}

// usedIn is the number of blocks in use in a group, all at its beginning.
func (f *formatter) usedIn(group uint64) uint64 {
	if group == 0 {
		return f.used
	}
	return f.overhead(group)
}

// describe makes the group descriptors and the free counts.
func (f *formatter) describe() {
	s := &f.super
	n := s.groups()
	f.groups = make([]groupDesc, n)
	free := uint64(0)
	for g := range n {
		d := &f.groups[g]
		at := f.bitmaps(g)
		d.setPlaces(at, at+1, at+2)
		left := s.blocksIn(g) - f.usedIn(g)
		free += left
		d.FreeBlocksLo = uint16(left)
		d.FreeInodesLo, d.ItableUnused = inodesPerGroup, inodesPerGroup
		d.Flags = groupInodeUninit
		if g == 0 || g == n-1 { // the last one's bitmap needs padding, which the kernel expects to find
			d.setBlockBitmapCsum(f.seed, f.blockBitmap(g))
		} else {
			d.Flags |= groupBlockUninit
		}
	}
	d := &f.groups[0]
	d.FreeInodesLo -= inoLostFound
	d.ItableUnused -= inoLostFound
	d.UsedDirsLo = 2
	d.Flags &^= groupInodeUninit
	d.setInodeBitmapCsum(f.seed, inodeBitmap()[:inodesPerGroup/8])
	s.FreeBlocksCountLo, s.FreeBlocksCountHi = uint32(free), uint32(free>>32)
	s.FreeInodesCount = s.InodesCount - inoLostFound
}

func (f *formatter) blockBitmap(group uint64) []byte {
	b := make([]byte, blockSize)
	setBits(b, 0, f.usedIn(group))
	setBits(b, f.super.blocksIn(group), blocksPerGroup)
	return b
}

func inodeBitmap() []byte {
	b := make([]byte, blockSize)
	setBits(b, 0, inoLostFound)
	setBits(b, inodesPerGroup, blockSize*8)
	return b
}

func setBits(b []byte, from, to uint64) {
	for n := from; n < to; n++ {
		b[n/8] |= 1 << (n % 8)
	}
}

// write puts everything in place.
func (f *formatter) write() error {
	if err := f.zero(0, 1); err != nil {
		return err
	}
	if err := sync(f.w); err != nil {
		return err
	}
	var descriptors bytes.Buffer
	for g := range f.groups {
		descriptors.Write(f.groups[g].encode(f.seed, uint64(g)))
	}
	descriptors.Write(make([]byte, f.super.descBlocks()*blockSize-uint64(descriptors.Len())))
	// Journal, directories and inodes of group 0, then every group's own metadata.
	if err := f.contents(); err != nil {
		return err
	}
	for g := range uint64(len(f.groups)) {
		if err := f.group(g, descriptors.Bytes()); err != nil {
			return err
		}
	}
	if err := sync(f.w); err != nil {
		return err
	}
	first := make([]byte, blockSize)
	copy(first[superOffset:], f.super.encode())
	if err := f.put(0, first); err != nil {
		return err
	}
	return sync(f.w)
}

// group writes a group's copies of superblock and descriptors, and its bitmaps.
func (f *formatter) group(g uint64, descriptors []byte) error {
	at := g * blocksPerGroup
	if hasSuper(g) {
		if g > 0 {
			s := f.super
			s.BlockGroupNr = uint16(g)
			if err := f.put(at, append(s.encode(), make([]byte, blockSize-superSize)...)); err != nil {
				return err
			}
		}
		if err := f.put(at+1, descriptors); err != nil {
			return err
		}
	}
	if f.groups[g].Flags&groupBlockUninit == 0 {
		return f.put(f.bitmaps(g), f.blockBitmap(g))
	}
	return nil
}

// contents writes what group 0 holds besides.
func (f *formatter) contents() error {
	if err := f.zero(f.journal, f.journalBlocks); err != nil {
		return err
	}
	if err := f.put(f.journal, journalSuperblock(f.super.UUID, f.journalBlocks, 1)); err != nil {
		return err
	}
	double, reserved := f.super.resizeBlocks()
	if err := f.put(f.resize, double); err != nil {
		return err
	}
	if err := f.put(1+f.super.descBlocks(), reserved); err != nil {
		return err
	}
	seed := inodeSeed(f.seed, inoRoot, 0)
	if err := f.put(f.root, directoryBlock(seed, dirEntry{inoRoot, kindDir, "."}, dirEntry{inoRoot, kindDir, ".."},
		dirEntry{inoLostFound, kindDir, "lost+found"})); err != nil {
		return err
	}
	seed = inodeSeed(f.seed, inoLostFound, 0)
	lost := directoryBlock(seed, dirEntry{inoLostFound, kindDir, "."}, dirEntry{inoRoot, kindDir, ".."})
	for range lostFoundSize - 1 { // room for a rescue on a full disk
		lost = append(lost, directoryBlock(seed)...)
	}
	if err := f.put(f.lostFound, lost); err != nil {
		return err
	}
	if err := f.put(f.bitmaps(0)+1, inodeBitmap()); err != nil {
		return err
	}
	return f.put(f.bitmaps(0)+2, f.inodes())
}

// inodes gives the first block of group 0's inode table.
func (f *formatter) inodes() []byte {
	t := f.super.MkfsTime
	b := make([]byte, blockSize)
	place := func(number uint32, i inode) {
		i.Atime, i.Ctime, i.Mtime, i.Crtime = t, t, t, t
		copy(b[(number-1)*inodeSize:], i.encode(f.seed, number))
	}
	root := inode{Mode: modeDir | 0o755, Links: 3}
	root.setExtent(f.root, 1)
	place(inoRoot, root)
	lost := inode{Mode: modeDir | 0o700, Links: 2}
	lost.setExtent(f.lostFound, lostFoundSize)
	place(inoLostFound, lost)
	journal := inode{Mode: modeRegular | 0o600, Links: 1}
	journal.setExtent(f.journal, uint16(f.journalBlocks))
	place(inoJournal, journal)
	for n := range 15 {
		f.super.JnlBlocks[n] = binary.LittleEndian.Uint32(journal.Block[4*n:])
	}
	f.super.JnlBlocks[15], f.super.JnlBlocks[16] = journal.SizeHi, journal.SizeLo
	place(inoResize, f.resizeInode())
	return b
}

func (f *formatter) put(block uint64, b []byte) error {
	_, err := f.w.WriteAt(b, f.offset+int64(block)*blockSize)
	return err
}

func (f *formatter) zero(block, n uint64) error {
	return zero(f.w, f.offset+int64(block)*blockSize, int64(n)*blockSize)
}

func sync(w any) error {
	if s, ok := w.(interface{ Sync() error }); ok {
		return s.Sync()
	}
	return nil
}
