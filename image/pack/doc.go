// Package pack builds disk images of the appliance.
//
// The work is gokrazy's: its packer gok, pinned by image/gok, builds an instance, a folder of this one with a
// config.json: amd64, arm64 or rpi. What gok builds from is pinned by the modules below image/builddir, which all
// instances share; the appliance's own dependencies are those of the root go.mod.
//
// What [Build] adds to what gok makes:
//
//   - The boot file system, which gok makes as small as its contents, is spread over its partition, so that a person
//     can put a file there.
//   - The persistent partition is formatted.
//   - Everything that depends on when and where the build ran is set to fixed values, so that the same commit gives the
//     same bytes: times of files, the build timestamp, paths.
//
// What still differs between two machines is what gok takes from the machine it runs on: the certificate bundle
// (/etc/ssl/certs/ca-certificates.crt and the like) and the time zone (/etc/localtime).
//
// # Disk layout
//
// It is gokrazy's, in a GPT with a hybrid MBR:
//
//	partition  offset    size     content
//	1          4 MiB     100 MiB  boot: FAT16 with kernel, command line, firmware, boot loaders
//	2          104 MiB   500 MiB  root file system, squashfs
//	3          604 MiB   500 MiB  the other root file system, for updates
//	4          1104 MiB  rest     /perm: ext4, grown at the first boot
package pack
