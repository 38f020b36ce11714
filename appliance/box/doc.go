// Package box is what the program does beside serving when it is the appliance: a machine under gokrazy that nobody
// logs in to. `kdht serve --appliance` calls [Boot] before it makes its configuration and [Box.Serve] to serve.
//
// gokrazy's init has mounted /perm if it could, and starts all programs at once: this one, DHCP, NTP. Boot then
//
//   - has /perm mended, grown and mounted (appliance/disk), unless this version is on trial;
//   - decides where the state lives: in /perm/kdht, or in memory, loudly, where that cannot be written (state.go), or while files
//     are saved from a file system beyond repair (prepare.go);
//   - does what files on the FAT boot partition ask for, the one place that whoever flashed the box can write to on any
//     machine: factory-reset (reset.go), kdht.hujson, tailnet.key and gokr-pw.txt (takeover.go);
//   - gives the machine a name of its own (hostname.go), and later, where there is no DHCP server, interfaces an address (appliance/linklocal).
//
// None of that may keep the box from serving. What goes wrong is a sentence on the status page, in the log and on the
// console (console.go), and the box goes on with the last good configuration, or the defaults.
//
// Everything here may be cut off by a loss of power at any point and is then done again, or finished, at the next
// start. The order is always: first durable in /perm, then changed on the boot partition, which is mounted for writing
// only while something is taken away from it.
//
// The configuration, kdht.hujson, stays where it is, to be changed there; if it is changed over the tailnet (appliance/admin),
// what lies there counts as an earlier one until somebody changes it. Secrets have files of their own, which are overwritten and
// removed.
// An update with another kernel has a boot file system of its own (appliance/update/bootdisk), without that file; a rollback brings the one of
// before back, with its file, which counts as new only if it was changed since (seen.go).
//
// A button for the factory reset is not supported: boxes of five kinds have no GPIO line in common, one without a
// button floats, and the file works on all of them.
//
// Not here: the file system of /perm itself (appliance/disk), updates, discovery, and what a configuration means.
package box
