package pack

// Offsets and sizes in bytes of gokrazy's partitions; see its package tools/packer.
const (
	MiB = 1 << 20

	BootOffset = 4 * MiB
	BootSize   = 100 * MiB
	RootOffset = BootOffset + BootSize
	RootSize   = 500 * MiB
	PermOffset = RootOffset + 2*RootSize

	// ImageSize is the size of an image. What is left for /perm is enough to run on; the first boot grows it to
	// the whole disk.
	ImageSize = 1280 * MiB
	// PermSize is the size of /perm in an image: the rest, less the second partition table.
	PermSize = ImageSize - PermOffset - 34*512

	// MaxRoot is how big a root file system may be.
	MaxRoot = 45 * MiB
)
