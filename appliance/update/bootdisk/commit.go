package bootdisk

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrNotCommitted says that the disk does not say what it should after a commit.
var ErrNotCommitted = errors.New("the disk does not have what was written")

// Commit makes what a trial tried permanent. The write that decides what the machine boots is one sector, and is the last
// one; the others before it change nothing that this platform reads. Then it reads back from the disk.
func (d *Disk) Commit(t Target) error {
	if !t.valid() {
		return fmt.Errorf("%w: %+v", ErrNotCommitted, t)
	}
	d.Platform = t.Platform
	if err := d.commit(t); err != nil {
		return err
	}
	s, err := d.Selected()
	if err != nil {
		return err
	}
	if s.Slot != t.To || t.Boot != 0 && s.Boot != t.Boot {
		return fmt.Errorf("%w: it boots slot %d with the boot file system at %d", ErrNotCommitted, s.Slot, s.Boot)
	}
	return nil
}

func (d *Disk) commit(t Target) error {
	if t.Boot != 0 {
		return d.force(t.Boot, t.Platform)
	}
	f, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	return d.point(f, t.To)
}

// point makes a boot file system boot a slot: first in the file that the platform does not read, then in the other.
func (d *Disk) point(f *fat, slot Slot) error {
	old, err := line(f, cmdlineFile)
	if err != nil {
		return err
	}
	order := []string{loaderFile, cmdlineFile}
	if d.Platform == UEFI {
		order = []string{cmdlineFile, loaderFile}
	}
	for _, path := range order {
		text, err := line(f, path)
		if errors.Is(err, ErrFAT) && path == loaderFile && d.Platform != UEFI {
			continue // an image for the Raspberry Pi without it
		}
		if err != nil {
			return err
		}
		if text, err = withRoot(text, old, slot); err != nil {
			return err
		}
		if err := errors.Join(d.setLine(f, path, text), d.Boot.Sync()); err != nil {
			return err
		}
	}
	return nil
}

// force puts the boot file system at a place in force. The one before keeps what it needs to be put in force again.
func (d *Disk) force(reserved int, platform Platform) error {
	bpb, c, err := header(d.Boot, reserved)
	if err != nil {
		return err
	}
	mbr, err := readAny(d.Whole, 0, sector)
	if err != nil {
		return err
	}
	now, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	if now.reserved != reserved {
		// Whoever finds the new boot sector with the old boot code must find the old boot sector, too.
		if err := d.intact(reserved); err != nil {
			return err
		}
		old := card{prev: reserved}
		copy(old.code[:], mbr)
		if old.sum, err = d.sum(now); err != nil {
			return err
		}
		c.prev = now.reserved
		if err := serial(
			func() error { return writeHeader(d.Boot, now.reserved, now.boot, old) },
			func() error { return writeHeader(d.Boot, reserved, bpb, c) },
			d.Boot.Sync,
		); err != nil {
			return err
		}
	}
	first := func() error {
		if bytes.Equal(now.boot, bpb) {
			return nil
		}
		_, err := d.Boot.WriteAt(bpb, 0)
		return errors.Join(err, d.Boot.Sync())
	}
	code := func() error {
		if c.code == [codeSize]byte{} || bytes.Equal(mbr[:codeSize], c.code[:]) {
			return nil
		}
		copy(mbr, c.code[:])
		_, err := d.Whole.WriteAt(mbr, 0)
		return errors.Join(err, d.Whole.Sync())
	}
	if platform == BIOS {
		return serial(first, code)
	}
	return serial(code, first)
}

// serial calls functions until one fails.
func serial(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Reconcile removes what a trial that did not pass, or a commit that a power cut ended, left on the disk, where it does
// not decide what is booted. running is the slot of the root file system that is mounted. When the disk would boot
// another one, nothing is touched.
func (d *Disk) Reconcile(running Slot) error {
	s, err := d.Selected()
	if err != nil {
		return err
	}
	if s.Slot != running {
		return nil
	}
	f, err := readFAT(d.Boot, 0)
	if err != nil {
		return err
	}
	if f.reserved != s.Boot { // BIOS boots the file system before this one
		bpb, _, err := header(d.Boot, s.Boot)
		if err != nil {
			return err
		}
		if _, err := d.Boot.WriteAt(bpb, 0); err != nil {
			return err
		}
		if err := d.Boot.Sync(); err != nil {
			return err
		}
		if f, err = readFAT(d.Boot, 0); err != nil {
			return err
		}
	}
	if _, _, err := header(d.Boot, f.reserved); err == nil && d.Platform != BIOS {
		if err := d.force(f.reserved, d.Platform); err != nil { // the boot code, if it was left behind
			return err
		}
	}
	return errors.Join(d.point(f, running), d.ForgetOnce())
}
