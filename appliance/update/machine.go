package update

import (
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kdht/appliance/update/bootdisk"
)

// Machine is what only a real machine can do: the last calls.
type Machine interface {
	// LoadKernel makes a kernel the one that Kexec starts. It is from a file on a real file system.
	LoadKernel(kernel *os.File, line string) error
	// Kexec starts the loaded kernel. It returns only with an error.
	Kexec() error
	// Restart restarts the machine by its firmware. It returns only with an error.
	Restart() error
	// PowerOff switches the machine off. It returns only with an error.
	PowerOff() error
}

// Linux is the machine that runs this program.
type Linux struct{}

// LoadKernel implements [Machine].
func (Linux) LoadKernel(kernel *os.File, line string) error {
	return unix.KexecFileLoad(int(kernel.Fd()), 0, line, unix.KEXEC_FILE_NO_INITRAMFS)
}

// Kexec implements [Machine].
func (Linux) Kexec() error { return leave(unix.LINUX_REBOOT_CMD_KEXEC) }

// Restart implements [Machine].
func (Linux) Restart() error { return leave(unix.LINUX_REBOOT_CMD_RESTART) }

// PowerOff implements [Machine].
func (Linux) PowerOff() error { return leave(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// leave ends the run of the kernel with everything written. /perm becomes read-only first, so that its journal is clean;
// where a program keeps it from that, the journal is there for it.
//
// A disk that does not answer is not waited for.
func leave(command int) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		unix.Sync()
		_ = unix.Mount("", "/perm", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		unix.Sync()
	}()
	select {
	case <-done:
	case <-time.After(flushing):
	}
	return unix.Reboot(command)
}

// flushing is how long a disk may take for what was not written yet.
const flushing = time.Minute

// instance is the kind of box that this is, as releases name them.
func instance() string {
	if model, err := os.ReadFile("/proc/device-tree/model"); err == nil && strings.HasPrefix(string(model), "Raspberry Pi") {
		return "rpi"
	}
	return runtime.GOARCH
}

// Uptime is how long the machine runs.
func Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// canKexec says whether a trial may load a kernel by itself.
func canKexec(p bootdisk.Platform) bool { return p != bootdisk.Firmware }
