package pack

// Offsets and sizes in bytes of the partitions of an image.
const (
	MiB = 1 << 20

	BootOffset = 4 * MiB
	// BootSize has room for two boot file systems as large as gokrazy's packer can make them, 128 MiB, and on the Raspberry Pi
	// for the copy that a trial boots. See package appliance/update/bootdisk.
	BootSize   = 508 * MiB
	RootOffset = BootOffset + BootSize
	RootSize   = 256 * MiB
	PermOffset = RootOffset + 2*RootSize

	// ImageSize is the size of an image. What is left for /perm is enough to run on; the first boot grows it to
	// the whole disk.
	ImageSize = 1280 * MiB
	// PermSize is the size of /perm in an image: the rest, less the second partition table.
	PermSize = ImageSize - PermOffset - 34*512

	// MaxRoot is how big a root file system may be, the admin plane's node of a tailnet included.
	MaxRoot = 60 * MiB
)

// Offsets and sizes of what gokrazy's packer makes; see its package tools/packer.
const (
	gokBootSize   = 100 * MiB
	gokRootOffset = BootOffset + gokBootSize
	gokImageSize  = 1280 * MiB
)
