// Package image is the room of what turns the program into an appliance: gokrazy instances (amd64, arm64, rpi), which are
// folders of configuration, the modules that pin what goes into them (builddir) and their packer (gok), and programs
// and packages that nothing of the product imports:
//
//	build    the program behind make image, flash, vm, update, release
//	pack     builds disk images
//	fat      the boot file system
//	vm       runs images in virtual machines
//	boot     tests the appliance as a whole in them
//	kernels  runs test binaries on the stock kernels, without an image
package image
