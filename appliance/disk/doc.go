// Package disk looks after the appliance's persistent partition, /perm: partition 4 of
// the disk that gokrazy booted from.
//
// gokrazy's init mounts /perm before any program starts, and goes on if it cannot; it
// has neither mkfs nor e2fsck. [Perm] is called once, before anything uses /perm, and
//
//   - completes a rescue that a power cut interrupted;
//   - takes the file system out of use if it was not mounted, if the kernel noted errors in it, or
//     turned it to read-only: then restores a lost superblock from a copy, has the journal
//     replayed, verifies all metadata and makes descriptors and bitmaps anew where the
//     inodes are sound;
//   - sets a file system that is beyond repair aside: saves what can be read of it, makes a
//     new one, and puts the files back;
//   - grows the partition and the file system to the end of the disk.
//
// What it did is in the [Report], in sentences for the status page. Every step is
// ordered so that a power cut leaves something that the next call completes;
// sub-packages ext4 and table say how, and archive.go for the rescue.
//
// What does not live here: what to do without /perm (the caller serves from memory),
// and the FAT boot partition.
package disk
