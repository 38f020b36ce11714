package bootdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is where the disk that the machine runs from is found.
type Place struct {
	Disk    string         // block device, as in /dev/sda
	Parts   map[int]string // block devices of its partitions
	Start   int64          // where partition 1 begins, bytes
	Running Slot           // the one whose file system is mounted as root
}

// ErrNoDisk says that the machine does not run from a disk with gokrazy's layout.
var ErrNoDisk = errors.New("not running from a disk with gokrazy's layout")

// Find finds the disk by the device that is mounted at a directory, usually "/": the kernel's command line may name
// another one, when init has left the root file system that the kernel mounted.
func Find(root string) (Place, error) {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return Place{}, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Place{}, fmt.Errorf("%w: %s is not on a block device", ErrNoDisk, root)
	}
	n, err := number(filepath.Join(dir, "partition"))
	if err != nil || !Slot(n).Valid() {
		return Place{}, fmt.Errorf("%w: %s is not on partition 2 or 3", ErrNoDisk, root)
	}
	p, err := disk(filepath.Dir(dir))
	p.Running = Slot(n)
	return p, err
}

// disk reads what the kernel says of a disk.
func disk(dir string) (Place, error) {
	p := Place{Disk: "/dev/" + filepath.Base(dir), Parts: make(map[int]string)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	for _, e := range entries {
		n, err := number(filepath.Join(dir, e.Name(), "partition"))
		if err != nil {
			continue // not a partition
		}
		p.Parts[int(n)] = "/dev/" + e.Name()
		if n == 1 {
			start, err := number(filepath.Join(dir, e.Name(), "start"))
			if err != nil {
				return p, fmt.Errorf("%w: %w", ErrNoDisk, err)
			}
			p.Start = start * 512 // the kernel counts in these, whatever the medium has
		}
	}
	for n := 1; n <= 3; n++ {
		if p.Parts[n] == "" {
			return p, fmt.Errorf("%w: %s has no partition %d", ErrNoDisk, p.Disk, n)
		}
	}
	return p, nil
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// Open opens the disk for changes of what is booted. It fails with [ErrBusy] while the boot partition is mounted.
func (p Place) Open(platform Platform) (*Disk, func() error, error) {
	whole, err := openRaw(p.Disk, false)
	if err != nil {
		return nil, nil, err
	}
	boot, err := openRaw(p.Parts[1], true)
	if err != nil {
		return nil, nil, errors.Join(err, whole.Close())
	}
	d := &Disk{Whole: whole, Boot: boot, Start: p.Start, Platform: platform}
	return d, func() error { return errors.Join(boot.Close(), whole.Close()) }, nil
}

// OpenSlot opens a root partition for reading and writing. It fails with [ErrBusy] while it is mounted.
func (p Place) OpenSlot(s Slot) (interface {
	Device
	Close() error
}, error) {
	return openRaw(p.Parts[int(s)], true)
}

// ThisPlatform tells what started this machine.
func ThisPlatform() Platform {
	if t, ok := FindMarker(CommandLine()); ok {
		return t.Platform // a kernel that was loaded by another one may not know
	}
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		return UEFI
	}
	if runtime.GOARCH == "amd64" {
		return BIOS
	}
	return Firmware
}

// CommandLine is the command line of the running kernel; "" if that cannot be read.
func CommandLine() string {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// RunningTrial tells whether the root file system that is mounted is there on trial, and which one: the command line of
// the running kernel has the marker of a trial, or names the other slot, because init has left it.
func (p Place) RunningTrial(line string, platform Platform) (Target, bool) {
	if t, ok := FindMarker(line); ok {
		return t, t.To == p.Running
	}
	named, err := RootSlot(line)
	if err != nil || named == p.Running {
		return Target{}, false
	}
	return Target{From: named, To: p.Running, Platform: platform}, true
}
