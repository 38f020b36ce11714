// Package pack builds disk images of the appliance.
//
// The work is gokrazy's: its packer gok, pinned by image/gok, builds an instance, a folder of this one with a
// config.json: amd64, arm64 or rpi. What gok builds from is pinned by the modules below image/builddir, which all
// instances share; the appliance's own dependencies are those of the root go.mod.
//
// What [Build] adds to what gok makes:
//
//   - The boot partition becomes five times as large, so that an update can place another kernel beside the one in force
//     (package appliance/update/bootdisk), and the partitions for root file systems half as large: 256 MiB are four times
//     what one may have. The boot file system, which gok makes as small as its contents, gets free space, so that a person can
//     put a file there. IDs of partitions, and the client's side of an update, stay gok's.
//   - The persistent partition is formatted.
//   - Everything that depends on when and where the build ran is set to fixed values, so that the same commit gives the
//     same bytes: times of files, the build timestamp, paths.
//
// What still differs between two machines is what gok takes from the machine it runs on: the certificate bundle
// (/etc/ssl/certs/ca-certificates.crt and the like) and the time zone (/etc/localtime).
//
// # Names and passwords
//
// The host name in config.json is the same for all boxes, since gokrazy derives the IDs of the partitions from it, and an update
// has to name them; the box takes a name of its own when it runs (package appliance/box).
//
// Images hold no password, and gokrazy's own listener stays on its Unix socket ("NoPassword"): the appliance serves the update
// interface, and refuses every change until its owner has given it a password, in a file gokr-pw.txt on the boot partition
// (packages appliance/box, appliance/update). For gok this means that it would send an empty password. [Update] therefore
// gives it the box as a URL with the password in it; by hand, that is the same setting in config.json:
//
//	"InternalCompatibilityFlags": {"Update": "http://gokrazy:PASSWORD@HOST/"}
//	gok -i amd64 --parent_dir image update
//
// # Disk layout
//
// It has gokrazy's partitions, in a GPT with a hybrid MBR, in other sizes:
//
//	partition  offset    size     content
//	1          4 MiB     508 MiB  boot: FAT16 with kernel, command line, firmware, boot loaders
//	2          512 MiB   256 MiB  root file system, squashfs
//	3          768 MiB   256 MiB  the other root file system, for updates
//	4          1024 MiB  rest     /perm: ext4, grown at the first boot
package pack
