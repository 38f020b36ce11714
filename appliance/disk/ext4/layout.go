package ext4

const (
	blocksPerGroup = 8 * blockSize // one block of bitmap
	descSize       = 64
	descPerBlock   = blockSize / descSize
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize

	minBlocks = 16 << 20 / blockSize
	maxBlocks = 1<<32 - 1 // 16 TiB: the resize inode's block numbers have 32 bits
)

// superblock is the on-disk superblock, little endian, 1024 bytes.
type superblock struct {
	InodesCount, BlocksCountLo, RBlocksCountLo, FreeBlocksCountLo uint32
	FreeInodesCount, FirstDataBlock, LogBlockSize, LogClusterSize uint32
	BlocksPerGroup, ClustersPerGroup, InodesPerGroup              uint32
	Mtime, Wtime                                                  uint32
	MntCount, MaxMntCount, Magic, State, Errors, MinorRevLevel    uint16
	Lastcheck, Checkinterval, CreatorOS, RevLevel                 uint32
	DefResuid, DefResgid                                          uint16
	FirstIno                                                      uint32
	InodeSize, BlockGroupNr                                       uint16
	FeatureCompat, FeatureIncompat, FeatureRoCompat               uint32
	UUID, VolumeName                                              [16]byte
	LastMounted                                                   [64]byte
	AlgorithmUsageBitmap                                          uint32
	PreallocBlocks, PreallocDirBlocks                             uint8
	ReservedGdtBlocks                                             uint16
	JournalUUID                                                   [16]byte
	JournalInum, JournalDev, LastOrphan                           uint32
	HashSeed                                                      [16]byte
	DefHashVersion, JnlBackupType                                 uint8
	DescSize                                                      uint16
	DefaultMountOpts, FirstMetaBg, MkfsTime                       uint32
	JnlBlocks                                                     [17]uint32
	BlocksCountHi, RBlocksCountHi, FreeBlocksCountHi              uint32
	MinExtraIsize, WantExtraIsize                                 uint16
	Flags                                                         uint32
	RaidStride, MmpInterval                                       uint16
	MmpBlock                                                      uint64
	RaidStripeWidth                                               uint32
	LogGroupsPerFlex, ChecksumType, EncryptionLevel, ReservedPad  uint8
	KbytesWritten                                                 uint64
	SnapshotInum, SnapshotID                                      uint32
	SnapshotRBlocksCount                                          uint64
	SnapshotList, ErrorCount, FirstErrorTime, FirstErrorIno       uint32
	FirstErrorBlock                                               uint64
	FirstErrorFunc                                                [32]byte
	FirstErrorLine, LastErrorTime, LastErrorIno, LastErrorLine    uint32
	LastErrorBlock                                                uint64
	LastErrorFunc                                                 [32]byte
	MountOpts                                                     [64]byte
	UsrQuotaInum, GrpQuotaInum, OverheadClusters                  uint32
	BackupBgs                                                     [2]uint32
	EncryptAlgos                                                  [4]uint8
	EncryptPwSalt                                                 [16]byte
	LpfIno, PrjQuotaInum, ChecksumSeed                            uint32
	TimesHi                                                       [6]uint8
	FirstErrorErrcode, LastErrorErrcode                           uint8
	Encoding, EncodingFlags                                       uint16
	OrphanFileInum                                                uint32
	Reserved                                                      [94]uint32
	Checksum                                                      uint32
}

// Flags of a group descriptor.
const (
	groupInodeUninit = 0x1 // inode bitmap and table were never written
	groupBlockUninit = 0x2 // block bitmap was never written
	groupInodeZeroed = 0x4
)

// groupDesc is an on-disk group descriptor of a 64-bit file system, 64 bytes.
type groupDesc struct {
	BlockBitmapLo, InodeBitmapLo, InodeTableLo                   uint32
	FreeBlocksLo, FreeInodesLo, UsedDirsLo, Flags                uint16
	ExcludeBitmapLo                                              uint32
	BlockBitmapCsumLo, InodeBitmapCsumLo, ItableUnused, Checksum uint16
	BlockBitmapHi, InodeBitmapHi, InodeTableHi                   uint32
	FreeBlocksHi, FreeInodesHi, UsedDirsHi, ItableUnusedHi       uint16
	ExcludeBitmapHi                                              uint32
	BlockBitmapCsumHi, InodeBitmapCsumHi                         uint16
	Reserved                                                     uint32
}

// Flags of an inode.
const (
	inodeEAInode    = 0x200000
	inodeExtents    = 0x80000
	inodeInlineData = 0x10000000
	inodeIndex      = 0x1000 // hashed directory
)

// Numbers of the inodes that always exist.
const (
	inoRoot      = 2
	inoResize    = 7
	inoJournal   = 8
	inoLostFound = 11 // the first one that is not reserved
)

const (
	modeType    = 0xf000
	modeDir     = 0x4000
	modeRegular = 0x8000
	modeSymlink = 0xa000
)

// inode is an on-disk inode, 256 bytes; Xattrs holds attributes that fit.
type inode struct {
	Mode, UID                                               uint16
	SizeLo, Atime, Ctime, Mtime, Dtime                      uint32
	GID, Links                                              uint16
	BlocksLo, Flags, Version                                uint32
	Block                                                   [60]byte
	Generation, FileACLLo, SizeHi, Fragment                 uint32
	BlocksHi, FileACLHi, UIDHi, GIDHi, ChecksumLo, Unused   uint16
	ExtraIsize, ChecksumHi                                  uint16
	CtimeExtra, MtimeExtra, AtimeExtra, Crtime, CrtimeExtra uint32
	VersionHi, ProjectID                                    uint32
	Xattrs                                                  [96]byte
}

func (i *inode) size() uint64 { return uint64(i.SizeHi)<<32 | uint64(i.SizeLo) }

const journalMagic = 0xc03b3998
