// Package kernels boots the kernels that the appliance ships with, under QEMU,
// to run Go test binaries as root inside them.
//
// A guest is a kernel, an initramfs, and disks where a test needs them. The initramfs holds
// a small init (folder guest), one static test binary and its testdata. The
// kernels are Go modules of the gokrazy project, those that images are built
// with: image/builddir pins them.
//
// QEMU runs them in software (TCG, one thread): no KVM is needed, and a boot
// takes seconds to tens of seconds.
package kernels
