// Package update takes updates of the appliance and tries them before they stay. It offers gokrazy's own update interface,
// so that "gok update", programs built on github.com/gokrazy/updater and curl work unchanged, in front of gokrazy's Unix
// socket, and makes it safe:
//
//   - root: written to the slot that is not mounted, read back past the page cache, checked to be a whole squashfs with
//     gokrazy's init and the guard, for this architecture;
//   - boot: placed beside the boot file system in force (bootdisk.Stage), and dropped if nothing in it is new;
//   - mbr: answered, and not written: boot code is never replaced, because no trial can test it;
//   - switch, testboot: arm a trial and change nothing that is booted;
//   - reboot: with a trial armed, stops the node and tries: by kexec, or where no kernel can be loaded or a hang could not
//     be undone from afar (Raspberry Pi) by the flag of gokrazy's init, if the kernel stays, or else by a start that the
//     firmware makes once with other files (bootdisk.Once).
//     After a trial by flag that was committed the machine restarts once more, because init keeps the old slot mounted.
//
// In the trial the guard (appliance/guard) asks for [Health] until it passes several times in a row, and commits; when its
// deadline passes it restarts the machine into what was there before. This package has a second, later deadline for when
// the guard cannot run. Health demands what the version before did: its record is beside the others and, for a /perm that
// cannot be read, in a word on the kernel's command line, with the deadline.
//
// A failed trial condemns a release, which is then not pulled again, unless it ended without a word (the power?) or for
// nothing but missing links, addresses and answers (the network?): then it is tried again a few times, ever later (doubt.go).
//
// With a release key configured nothing is written that a signed manifest does not describe: it comes first, as PUT
// /update/manifest, or with the files of a release that the box pulls by itself (pull.go). Its serial must not go back, unless
// whoever knows the password names the version that is to come back, which is in the history as a downgrade; a place of releases alone
// cannot make a box go back. Below the floor that a committed release names (Manifest.Floor) nobody can, by name or by rollback. A box without a password takes what is newer and signed, and nothing else.
// A root file system that is refused after it was written is made unmountable in its slot, and a rollback goes only to what
// ran before or was signed. From a request to restart on nothing begins any more: what is tried is what was checked.
//
// Every request needs the password, which the status page does not; wrong ones cost ever more time (guesses.go).
//
// # States
//
//	idle ── PUT root ──▶ staged ── POST switch ──▶ armed ── POST reboot ──▶ trial ──▶ committed: idle, other slot
//	  ▲                    │ ▲                       │                        │
//	  └──── any failure ───┘ └─ PUT root, boot, mbr ─┘                        └─────▶ reverted: idle, same slot
//
// The steps of an update belong together: until two minutes after the last one, another client gets 409 Conflict (session.go).
//
// In every state but trial the disk selects what runs; what a power cut leaves in each is the table of package bootdisk.
// During a trial every request that would change something gets 409 Conflict. The records in the state directory
// (record.go) tell the story across restarts; nothing depends on them but the story, the slots' hashes and the serial.
package update
