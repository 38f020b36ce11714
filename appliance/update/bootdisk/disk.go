package bootdisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Disk is a disk with gokrazy's layout.
type Disk struct {
	Whole    Device // the disk itself: only its first sector is ever touched
	Boot     Device // partition 1
	Start    int64  // where that partition begins on the disk, bytes
	Platform Platform
}

// Selection is what the machine boots when it is started.
type Selection struct {
	Slot Slot
	// Boot is where the boot file system in force lies, as the number of sectors reserved before it.
	Boot int
	Line string // command line
}

// Selected reads what the machine boots when it is started, in the way that its platform does.
func (d *Disk) Selected() (Selection, error) {
	f, err := readFAT(d.Boot, 0)
	if err != nil {
		return Selection{}, err
	}
	s := Selection{Boot: f.reserved}
	switch d.Platform {
	case BIOS:
		var code []byte
		if code, err = readAny(d.Whole, 0, codeSize); err != nil {
			return s, err
		}
		if s.Boot, s.Line, err = d.bios(f, code); err != nil {
			return s, err
		}
	default:
		path := cmdlineFile
		if d.Platform == UEFI {
			path = loaderFile
		}
		if s.Line, err = line(f, path); err != nil {
			return s, err
		}
	}
	s.Slot, err = RootSlot(s.Line)
	return s, err
}

// line reads the command line of one of the files that have it.
func line(f *fat, path string) (string, error) {
	x, err := f.find(path)
	if err != nil {
		return "", err
	}
	content, err := f.read(x)
	if err != nil {
		return "", err
	}
	from, to, err := lineOf(path, content)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(content[from:to])), nil
}

// bios finds what the boot code points to: the boot file system in force, or another one, after a power cut between the
// two writes of a commit.
func (d *Disk) bios(f *fat, code []byte) (reserved int, text string, err error) {
	at := int64(binary.LittleEndian.Uint32(code[codeCmdline:]))*sector - d.Start
	if at <= 0 || at+sector > d.Boot.Size() {
		return 0, "", fmt.Errorf("%w: the boot code points outside of the boot partition", ErrCommandLine)
	}
	b, err := readAny(d.Boot, at, sector)
	if err != nil {
		return 0, "", err
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	text = strings.TrimSpace(string(b))
	places := []int{f.reserved}
	if _, c, err := header(d.Boot, f.reserved); err == nil && c.prev != 0 {
		places = append(places, c.prev)
	}
	for i, reserved := range places {
		g := f
		if i > 0 {
			if g, err = readFAT(d.Boot, int64(reserved+bootCopy)*sector); err != nil {
				continue
			}
		}
		if x, err := g.find(cmdlineFile); err == nil && g.offset(x.first) == at {
			return reserved, text, nil
		}
	}
	return 0, "", fmt.Errorf("%w: the boot code points to no known command line", ErrCommandLine)
}

// Arm makes the next start a trial of the other slot by means of gokrazy's init, on machines that cannot load a kernel
// by themselves. It is one write of one sector, and init takes it back before it leaves the old root file system. word,
// which begins with "kdht.", is for the trial to read from the kernel's command line; without room it is left out.
func (d *Disk) Arm(word string) error {
	f, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	old, err := line(f, cmdlineFile)
	if err != nil {
		return err
	}
	slot, err := RootSlot(old)
	if err != nil {
		return err
	}
	clean, err := withRoot(old, old, slot)
	if err != nil {
		return err
	}
	clean += " " + TryFlag
	err = d.setLine(f, cmdlineFile, clean+" "+word)
	if errors.Is(err, ErrCommandLine) {
		err = d.setLine(f, cmdlineFile, clean)
	}
	return errors.Join(err, d.Boot.Sync())
}

// setLine changes the command line in a file by one write of one sector. The same line again writes nothing.
func (d *Disk) setLine(f *fat, path, text string) error {
	x, err := f.find(path)
	if err != nil {
		return err
	}
	old, err := f.read(x)
	if err != nil {
		return err
	}
	content, err := replaceLine(path, old, text)
	if err != nil {
		return err
	}
	if bytes.Equal(old, content) {
		return nil
	}
	list, err := f.chain(x.first)
	if err != nil {
		return err
	}
	changed := -1
	for i := 0; i < len(content); i += sector {
		if e := min(i+sector, len(content)); !bytes.Equal(old[i:e], content[i:e]) {
			if changed >= 0 {
				return fmt.Errorf("%w: in %s it lies across two sectors, which no single write can change", ErrCommandLine, path)
			}
			changed = i
		}
	}
	at := f.offset(list[int64(changed)/f.cluster]) + int64(changed)%f.cluster
	b, err := readAny(d.Boot, at, sector) // what lies behind the end of the file stays
	if err != nil {
		return err
	}
	copy(b, content[changed:min(changed+sector, len(content))])
	_, err = d.Boot.WriteAt(b, at)
	return err
}
