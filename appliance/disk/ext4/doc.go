// Package ext4 makes, checks and mends the ext4 file system of the appliance's
// persistent partition without external programs: the box has no mkfs and no e2fsck.
//
// [Format] writes an empty file system that the kernel can grow online to any disk
// (resize inode with room for 2 TiB; beyond that the kernel turns to meta_bg by
// itself). The same options give the same bytes, so images are reproducible.
//
// [Check] verifies every metadata checksum and that the allocation bitmaps are
// exactly what the inodes use. [FindSuperblock] and [RestoreSuperblock] bring a lost
// primary superblock back from a copy, [RebuildGroups] the group descriptors and
// bitmaps from the inodes. What is damaged beyond that is not mended: [Walk] then
// gives what can still be read.
//
// What does not live here: the journal, which the kernel replays when it mounts, file
// contents (ext4 keeps no checksums of them), and partition tables.
//
// The format is documented in the kernel's Documentation/filesystems/ext4.
package ext4
