package appliance

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/status"
)

// diskOf describes the file system that a path is on.
func diskOf(path string) status.Disk {
	d := status.Disk{Path: path}
	var st unix.Statfs_t
	if unix.Statfs(path, &st) == nil {
		d.Size, d.Free = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	}
	return d
}

// temperatures reads the sensors of the machine: those that the kernel watches (class thermal), and where there are none,
// those of chips (class hwmon). sys is where sysfs is mounted.
func temperatures(sys string) (all []status.Temperature) {
	for _, c := range []struct{ values, name, label string }{
		{"class/thermal/thermal_zone*/temp", "type", ""},
		{"class/hwmon/hwmon*/temp*_input", "name", "_label"},
	} {
		paths, err := filepath.Glob(filepath.Join(sys, c.values))
		if err != nil {
			continue // the pattern is well formed
		}
		for _, path := range paths {
			milli, err := strconv.Atoi(line(path))
			if err != nil || milli <= -100_000 || milli >= 200_000 { // sensors that are not there say odd things
				continue
			}
			name := line(filepath.Join(filepath.Dir(path), c.name))
			if c.label != "" {
				name = strings.TrimSpace(name + " " + line(strings.TrimSuffix(path, "_input")+c.label))
			}
			all = append(all, status.Temperature{Name: name, Celsius: float64(milli) / 1000})
		}
		if all != nil {
			break
		}
	}
	return all
}

// line reads a file of one line; empty if it cannot be read.
func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// resident is how much memory the process has, in bytes; 0 if the kernel does not say.
func resident() int64 {
	fields := strings.Fields(line("/proc/self/statm"))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Uptime is how long the machine runs, sleep included; 0 if the kernel does not say.
func Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
