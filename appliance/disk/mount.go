package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A mount is what is mounted on the mount point.
type mount struct {
	kind     string
	device   string // its number, as major:minor
	readOnly bool   // by its own options or those of its file system
}

// mounted gives what is mounted on path, the topmost; ok is false if nothing is.
func mounted(path string) (m mount, ok bool, err error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 36 35 98:0 /root /mountpoint options shared:1 - ext4 /dev/sda4 options
		before, after, cut := strings.Cut(lines.Text(), " - ")
		a, b := strings.Fields(before), strings.Fields(after)
		if !cut || len(a) < 6 || len(b) < 3 || unescape(a[4]) != path {
			continue
		}
		// Kernels from 6.15 on call it emergency_ro when they refuse to write after an error.
		m, ok = mount{kind: b[0], device: a[2], readOnly: hasOption(a[5], "ro") || hasOption(b[2], "ro") || hasOption(b[2], "emergency_ro")}, true
	}
	return m, ok, lines.Err()
}

// isPartition says whether it is the partition that is mounted there.
func (m mount) isPartition(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return m.device == fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// unescape undoes the kernel's octal escapes of blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func hasOption(list, name string) bool {
	for _, o := range strings.Split(list, ",") {
		if o == name {
			return true
		}
	}
	return false
}

// Mount mounts the partition as ext4 at the mount point, and makes what gokrazy's init
// makes there: var, to which /var leads, and var/run.
func (p Place) Mount() error {
	if err := p.mount(0); err != nil {
		return err
	}
	run := filepath.Join(p.Mountpoint, "var", "run")
	err := os.MkdirAll(filepath.Dir(run), 0o755)
	if linkErr := os.Symlink("/run", run); linkErr != nil && !errors.Is(linkErr, os.ErrExist) {
		err = errors.Join(err, linkErr)
	}
	if err != nil {
		return fmt.Errorf("prepare %s: %w", p.Mountpoint, err)
	}
	return nil
}

func (p Place) mount(flags uintptr) error {
	if err := unix.Mount(p.Partition, p.Mountpoint, "ext4", flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", p.Partition, p.Mountpoint, err)
	}
	return nil
}

func (p Place) unmount() error {
	if err := unix.Unmount(p.Mountpoint, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", p.Mountpoint, err)
	}
	return nil
}

// replay has the kernel replay the journal, by mounting and unmounting.
func (p Place) replay() error {
	if err := p.mount(unix.MS_RDONLY); err != nil {
		return err
	}
	return p.unmount()
}
