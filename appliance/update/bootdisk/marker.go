package bootdisk

import (
	"fmt"
	"strconv"
	"strings"
)

// Platform is what reads the disk when the machine starts, and so decides which write is the one that counts.
type Platform byte

// Platforms.
const (
	// BIOS reads gokrazy's boot code in the master boot record, which has the places of kernel and command line in it.
	BIOS Platform = 'b'
	// UEFI starts systemd-boot, which reads the FAT file system and in it the loader's entry.
	UEFI Platform = 'u'
	// Firmware reads the FAT file system and in it cmdline.txt, as the Raspberry Pi's does.
	Firmware Platform = 'f'
)

func (p Platform) String() string {
	switch p {
	case BIOS:
		return "BIOS"
	case UEFI:
		return "UEFI"
	}
	return "firmware"
}

// markerKey begins the word that a trial puts on the kernel's command line.
const markerKey = "kdht.trial="

// Target is what a trial tries, and a commit makes permanent.
type Target struct {
	From, To Slot
	// Boot is where the boot file system of the trial begins, as the number of sectors reserved before it; 0: the one
	// that is in force stays.
	Boot     int
	Platform Platform
}

// Marker is the word for the kernel's command line.
func (t Target) Marker() string {
	return fmt.Sprintf("%s%d-%d-%d-%c", markerKey, t.From, t.To, t.Boot, t.Platform)
}

// FindMarker reads the marker from a command line; ok says whether there is a good one.
func FindMarker(line string) (t Target, ok bool) {
	for _, w := range strings.Fields(line) {
		s, found := strings.CutPrefix(w, markerKey)
		if !found {
			continue
		}
		p := strings.Split(s, "-")
		if len(p) != 4 || len(p[3]) != 1 {
			return Target{}, false
		}
		var n [3]int
		for i := range n {
			v, err := strconv.ParseUint(p[i], 10, 16)
			if err != nil {
				return Target{}, false
			}
			n[i] = int(v)
		}
		t = Target{From: Slot(n[0]), To: Slot(n[1]), Boot: n[2], Platform: Platform(p[3][0])}
		return t, t.valid()
	}
	return Target{}, false
}

func (t Target) valid() bool {
	return t.From.Valid() && t.To == t.From.Other() && (t.Platform == BIOS || t.Platform == UEFI || t.Platform == Firmware)
}
