package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// A Place is where a persistent partition is, and where it belongs.
type Place struct {
	Disk       string // device of the whole disk, such as /dev/mmcblk0
	Partition  string // device of the partition, such as /dev/mmcblk0p4
	Number     int    // of the partition, from 1
	Mountpoint string
	// Progress is told how far a rescue of files is; nil: nobody is.
	Progress func(what string, done, all int64)
}

// far tells how far a rescue is.
func (p Place) far(what string) func(done, all int64) {
	return func(done, all int64) {
		if p.Progress != nil {
			p.Progress(what, done, all)
		}
	}
}

// metered counts what is read of a part of a rescue.
type metered struct {
	r         io.Reader
	done, all int64
	far       func(done, all int64)
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.done += int64(n)
	m.far(m.done, m.all)
	return n, err
}

// permNumber is gokrazy's partition for /perm.
const permNumber = 4

// Locate finds the persistent partition of the disk that gokrazy booted from: the disk of the
// root file system, or else the one that the kernel's command line names, by the same rules as
// gokrazy. The error wraps [ErrNoDisk].
func Locate() (Place, error) {
	disk, err := rootDisk()
	if err != nil {
		cmdline, readErr := os.ReadFile("/proc/cmdline")
		if readErr != nil {
			return Place{}, fmt.Errorf("%w: %w", ErrNoDisk, readErr)
		}
		if disk, err = bootDisk(string(cmdline)); err != nil {
			return Place{}, fmt.Errorf("%w: %w", ErrNoDisk, err)
		}
	}
	partition, err := partitionOf(disk, permNumber)
	if err != nil {
		return Place{}, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	return Place{
		Disk: "/dev/" + filepath.Base(disk), Partition: "/dev/" + filepath.Base(partition),
		Number: permNumber, Mountpoint: "/perm",
	}, nil
}

// rootDisk gives the sysfs folder of the disk that holds /.
func rootDisk() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return "", err
	}
	return diskOf(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
}

// diskOf gives the sysfs folder of the disk of a partition.
func diskOf(partition string) (string, error) {
	dir, err := filepath.EvalSymlinks(partition)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return "", fmt.Errorf("%s is not a partition", filepath.Base(dir))
	}
	return filepath.Dir(dir), nil
}

// partitionOf gives the sysfs folder of a disk's partition.
func partitionOf(disk string, number int) (string, error) {
	all, err := os.ReadDir(disk)
	if err != nil {
		return "", err
	}
	for _, e := range all {
		b, err := os.ReadFile(filepath.Join(disk, e.Name(), "partition"))
		if err == nil && strings.TrimSpace(string(b)) == fmt.Sprint(number) {
			return filepath.Join(disk, e.Name()), nil
		}
	}
	return "", fmt.Errorf("%s has no partition %d", filepath.Base(disk), number)
}

var (
	rootGPT = regexp.MustCompile(`(?:^|\s)root=PARTUUID=([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:/PARTNROFF=-?\d+)?(?:\s|$)`)
	rootMBR = regexp.MustCompile(`(?:^|\s)root=PARTUUID=([0-9a-fA-F]{8})-[0-9a-fA-F]+(?:\s|$)`)
	rootDev = regexp.MustCompile(`(?:^|\s)root=/dev/(\S+)`)
)

// bootDisk gives the sysfs folder of the disk that a kernel command line names as root.
func bootDisk(cmdline string) (string, error) {
	if m := rootDev.FindStringSubmatch(cmdline); m != nil {
		return diskOf("/sys/class/block/" + m[1])
	}
	var matches func(sectors []byte) bool
	if m := rootGPT.FindStringSubmatch(cmdline); m != nil {
		matches = func(b []byte) bool {
			for n := range 4 {
				if strings.EqualFold(guid(b[1024+128*n+16:]), m[1]) {
					return true
				}
			}
			return false
		}
	} else if m := rootMBR.FindStringSubmatch(cmdline); m != nil {
		matches = func(b []byte) bool {
			return strings.EqualFold(fmt.Sprintf("%08x", binary.LittleEndian.Uint32(b[440:])), m[1])
		}
	} else {
		return "", errors.New("the kernel's command line names no root partition")
	}
	disks, err := filepath.Glob("/sys/block/*")
	if err != nil {
		return "", err
	}
	for _, d := range disks {
		b, err := firstSectors("/dev/" + filepath.Base(d))
		if err == nil && matches(b) {
			return filepath.EvalSymlinks(d)
		}
	}
	return "", fmt.Errorf("no disk matches the kernel's command line: %w", fs.ErrNotExist)
}

// firstSectors reads what holds a disk's tables.
func firstSectors(device string) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 3*512)
	_, err = f.ReadAt(b, 0)
	return b, err
}

// guid writes a GUID of a GPT: its first three parts are little endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
