package flash

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of [Inspect] and [Device.Check].
var (
	// ErrNotDisk means that a path is not a whole disk.
	ErrNotDisk = errors.New("not a disk")
	// ErrInUse means that the disk, or a part of it, is mounted, or used as swap space or by another driver.
	ErrInUse = errors.New("in use")
	// ErrFixed means that the disk is built in, and may well be the one that this machine runs from.
	ErrFixed = errors.New("not a removable disk")
	// ErrTooSmall means that the image does not fit.
	ErrTooSmall = errors.New("too small")
)

// Device is a disk, as Linux describes it.
type Device struct {
	Path  string // of the device file, links resolved
	Model string // as its maker calls it; may be empty
	Bus   string // "usb", "mmc", "loop", "nvme", ...; empty if unknown
	Size  int64  // bytes
	// Removable says that the medium or the disk is made to be taken out: card readers, USB sticks and disks, loop devices.
	Removable bool
	// Uses are what it is used for at the moment: where it is mounted, and the like.
	Uses []string
}

// Inspect describes a disk. It only reads.
func Inspect(path string) (Device, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Device{}, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return Device{}, err
	}
	name := filepath.Base(real)
	sys := filepath.Join("/sys/block", name) // partitions have no folder there
	if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return Device{}, fmt.Errorf("%s: %w", path, ErrNotDisk)
	}
	if _, err := os.Stat(sys); err != nil {
		return Device{}, fmt.Errorf("%s is %w, but perhaps a part of one: name the whole disk", path, ErrNotDisk)
	}
	d := Device{Path: real, Model: strings.TrimSpace(read(sys, "device/vendor") + " " + read(sys, "device/model"))}
	if d.Model == "" {
		d.Model = read(sys, "device/name") // of cards
	}
	d.Bus = bus(sys, name)
	d.Removable = read(sys, "removable") == "1" || d.Bus == "usb" || d.Bus == "loop" ||
		d.Bus == "mmc" && read(sys, "device/type") == "SD"
	sectors, err := strconv.ParseInt(read(sys, "size"), 10, 64)
	if err != nil {
		return Device{}, fmt.Errorf("%s: size: %w", path, err)
	}
	d.Size = sectors * 512
	d.Uses, err = uses(sys, name)
	return d, err
}

// read reads a file of sysfs, "" if it is not there.
func read(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file)) // what is not there is not known
	return strings.TrimSpace(string(b))
}

// bus says how a disk is connected, from its place in the tree of devices.
func bus(sys, name string) string {
	if strings.HasPrefix(name, "loop") {
		return "loop"
	}
	place, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return ""
	}
	for _, b := range []string{"usb", "mmc", "nvme", "ata", "virtio"} {
		if strings.Contains(place, "/"+b) {
			return b
		}
	}
	return ""
}

// uses lists what a disk and its partitions are used for.
func uses(sys, name string) (all []string, err error) {
	devices := map[string]string{read(sys, "dev"): name} // MAJOR:MINOR → name
	parts, err := filepath.Glob(filepath.Join(sys, name+"*"))
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		devices[read(p, "dev")] = filepath.Base(p)
	}
	for _, dir := range append(parts, sys) {
		holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
		for _, h := range holders {
			all = append(all, filepath.Base(dir)+" is used by "+h.Name())
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		source := ""
		if i := strings.Index(lines.Text(), " - "); i >= 0 {
			if f := strings.Fields(lines.Text()[i+3:]); len(f) > 1 {
				source = strings.TrimPrefix(f[1], "/dev/")
			}
		}
		part, found := devices[fields[2]]
		for _, p := range devices {
			if p == source { // some file systems have device numbers of their own
				part, found = p, true
			}
		}
		if found {
			all = append(all, fmt.Sprintf("%s is mounted on %s", part, fields[4]))
		}
	}
	swaps, _ := os.ReadFile("/proc/swaps")
	for line := range strings.Lines(string(swaps)) {
		for _, p := range devices {
			if f := strings.Fields(line); len(f) > 0 && f[0] == "/dev/"+p {
				all = append(all, p+" is swap space")
			}
		}
	}
	return all, lines.Err()
}

// Check says why an image of size bytes must not be written to the device, nil if it may. With force, a disk that is not
// removable will do; one that is in use never does.
func (d Device) Check(size int64, force bool) error {
	switch {
	case len(d.Uses) > 0:
		return fmt.Errorf("%s is %w: %s; unmount it first", d.Path, ErrInUse, strings.Join(d.Uses, ", "))
	case d.Size < size:
		return fmt.Errorf("%s is %w: it has %d MiB, the image %d MiB", d.Path, ErrTooSmall, d.Size>>20, size>>20)
	case !d.Removable && !force:
		return fmt.Errorf("%s (%s) is %w: it may be the disk of this very machine", d.Path, d.Describe(), ErrFixed)
	}
	return nil
}

// Describe names the device for people.
func (d Device) Describe() string {
	var words []string
	for _, w := range []string{d.Model, d.Bus} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(append(words, fmt.Sprintf("%.1f GB", float64(d.Size)/1e9)), ", ")
}

// open opens the device for this program alone: it fails while a part of it is mounted.
func (d Device) open() (*os.File, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is %w", d.Path, ErrInUse)
	}
	return f, err
}

// forget has the kernel read again from the medium what it has cached, and what partitions there are.
func forget(f *os.File) error {
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.BLKFLSBUF); err != nil {
		return fmt.Errorf("flush buffers: %w", err)
	}
	return nil
}

// reread has the kernel find the new partitions; that fails without harm where it cannot.
func reread(f *os.File) { _, _ = unix.IoctlRetInt(int(f.Fd()), unix.BLKRRPART) }
