// Package bootdisk is the disk that gokrazy boots from: which root file system and which kernel it selects, how another
// one is tried, and how the selection is changed so that a power cut at any moment leaves a machine that boots.
//
// # Layout
//
// Partition 1 is a FAT with kernel, kernel command line and boot loader, 2 and 3 (the slots) hold one root file system
// each, 4 is /perm. Three kinds of machine read it in three ways ([Platform]): the BIOS runs gokrazy's boot code in sector
// 0 of the disk, which has the places of kernel and command line (cmdline.txt) in it; UEFI runs systemd-boot, which reads
// the FAT and in it loader/entries/gokrazy.conf; the Raspberry Pi's firmware reads the FAT and in it cmdline.txt.
//
// # One sector decides
//
// A medium writes a sector of 512 bytes whole or not at all; that is all that is assumed of it. So every change ends in
// one write of one sector, which decides what is booted, after everything that it refers to was written and synced:
//
//   - another slot, same kernel: the sector of the command line that the platform reads. It is edited in place, at the
//     same length, after the file that the platform does not read.
//   - another kernel: a second, complete boot file system is written to a part of the boot partition that the one in force
//     does not use ([Disk.Stage], [Disk.Seal]). UEFI and firmware are led to it by the boot sector of the partition, whose
//     number of reserved sectors says where the tables begin; the BIOS by the boot code in sector 0 of the disk. The file
//     system that was in force stays as it was, and can be put in force again in the same way, unless files that somebody
//     has put on the boot partition since lie over it, which a hash tells.
//
// No window remains in which a cut leaves a machine that does not boot, on a medium that keeps its promise about
// sectors. Boot loaders (EFI/BOOT, boot code, the Raspberry Pi's firmware and the updater of its EEPROM) are never replaced,
// because no trial can test them.
//
// # Room
//
// The boot partition of our images has 508 MiB. The flashed file system ([Disk.Flash]) has one half of it, the next one goes to
// the other, and so on: each may have as much as gokrazy's packer can make, 128 MiB; today's have 16 MiB (amd64), 57 MiB
// (arm64) and 69 MiB (Raspberry Pi). A boot sector can only point to a table in the first 32 MiB of the partition, so both tables
// are at its beginning, and the clusters between a table and the files that lie far behind it are marked as bad in it: they belong
// to the other file system. What does not fit all the same, as in the 100 MiB that gokrazy's packer gives, or with many
// files of somebody's, is refused with [ErrNoRoom], and the kernel stays what it is.
//
// # Trials of a kernel
//
// By kexec, where the machine can: nothing on the disk changes. The Raspberry Pi cannot: its firmware is asked to start once with
// tryboot.txt instead of config.txt, for which [Disk.Once] puts the new kernel, its device trees and its overlays into a
// directory of the file system in force.
//
// # What a power cut leaves
//
//	step                                     on the disk                                  a cut there boots
//	root upload (WriteRoot)                  part of the new root in the other slot       old; nothing selects the slot
//	boot upload (Stage, Seal)                part of a boot file system beside            old; nothing selects it
//	trial armed, kexec                       nothing                                      old
//	trial armed, once (Once)                 files that nothing reads, lost clusters      old
//	trial armed, flag (Arm)                  1 sector of cmdline.txt                      old, or old's init starts the trial
//	trial runs, kexec or once                nothing                                      old
//	trial runs, flag                         init has taken the flag back before          old
//	commit, same kernel, first write         the file that the platform does not read     old
//	commit, same kernel, second write        the file that it reads                       old before it, new after it
//	commit, new kernel, cards                copies beside the tables, nothing else       old
//	commit, new kernel, first of two         what the platform does not read              old
//	commit, new kernel, second of two        boot sector (UEFI, firmware), boot code      old before it, new after it
//	after the commit                         all                                          new
//
// "Old" is old kernel and old root, "new" is new kernel and new root: there is no state that mixes them. The first start
// after a cut tidies up ([Disk.Reconcile]); a cut while it does so is harmless, too. The tests of this package cut the
// power after every write, and between syncs with any part of the writes done, on all three platforms.
//
// The package needs to run as root on such a disk; it depends on little, because the guard is built of it.
package bootdisk
