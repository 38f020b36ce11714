// Package image is the room of what turns the program into an appliance:
// the stock kernels that boxes boot, pinned, and the harness that boots them.
//
// Package kernels (a folder below) boots each stock gokrazy kernel under QEMU
// with an initramfs of one Go test binary. The product itself does not live
// here: nothing in this room is imported by it.
package image
