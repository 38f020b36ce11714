// Package table grows the last partition of a gokrazy disk to the disk's end, in a GPT
// (with the hybrid MBR that gokrazy's packer writes for every new installation, on
// amd64, arm64 and the Raspberry Pi alike) or in a plain MBR (what the packer writes for
// devices whose boot loader lies where a GPT would be).
//
// A power cut between any two sector writes leaves a table that the kernel and the
// firmware accept, with the old or the new size, and [Grow] completes it when
// it is called again. See gpt.go for the order.
//
// What does not live here: telling the running kernel, and file systems.
package table
