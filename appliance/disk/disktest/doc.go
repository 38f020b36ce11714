// Package disktest gives tests of the disk real devices and tables: a file as a loop
// device with partitions, a mount namespace of one's own, partition tables as
// gokrazy's packer wrote them, and a device in memory that records its writes.
//
// The tables in testdata are what github.com/gokrazy/tools/packer
// (v0.0.0-20260109180632-8ed49b4fafc7) writes for host name kdht, first partition at
// sector 8192 and a disk of [ImageSize] bytes, without the zeros.
package disktest
