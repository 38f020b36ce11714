package bootdisk

import (
	"io"
	"strings"
)

// Kernel gives the kernel of a boot file system: of the one in force, or with reserved of another one.
func (d *Disk) Kernel(reserved int) (io.Reader, error) {
	f, err := d.at(reserved)
	if err != nil {
		return nil, err
	}
	x, err := f.find(kernelFile)
	if err != nil {
		return nil, err
	}
	return f.open(x)
}

// TrialLine is the command line with which a kernel is loaded for a trial: that of the boot file system that the trial is
// about, with its root and its marker. A panic ends the trial, whatever the file says.
func (d *Disk) TrialLine(t Target) (string, error) {
	f, err := d.at(t.Boot)
	if err != nil {
		return "", err
	}
	text, err := line(f, cmdlineFile)
	if err != nil {
		return "", err
	}
	if text, err = withRoot(text, text, t.To); err != nil {
		return "", err
	}
	for _, must := range []string{"panic=10", "oops=panic"} {
		if key := must[:strings.Index(must, "=")+1]; !strings.Contains(" "+text, " "+key) {
			text += " " + must
		}
	}
	return text + " " + t.Marker(), nil
}

// at reads the boot file system in force, or with reserved another one.
func (d *Disk) at(reserved int) (*fat, error) {
	if reserved == 0 {
		return readFAT(d.Boot, 0)
	}
	if _, _, err := header(d.Boot, reserved); err != nil {
		return nil, err
	}
	return readFAT(d.Boot, int64(reserved+bootCopy)*sector)
}

// Usable says whether a boot file system could be put in force, and boots a slot.
func (d *Disk) Usable(reserved int, slot Slot) error {
	f, err := d.at(reserved)
	if err != nil {
		return err
	}
	text, err := line(f, cmdlineFile)
	if err != nil {
		return err
	}
	if s, err := RootSlot(text); err != nil || s != slot {
		return ErrNoCard
	}
	if reserved == 0 {
		return nil
	}
	return d.intact(reserved)
}
