package update

import (
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kdht/appliance/update/bootdisk"
)

// Machine is what only a real machine can do: the last calls.
type Machine interface {
	// LoadKernel makes a kernel the one that Kexec starts. It is from a file on a real file system.
	LoadKernel(kernel *os.File, line string) error
	// Kexec starts the loaded kernel. It returns only with an error.
	Kexec() error
	// CanOnce says whether RestartOnce does what it should.
	CanOnce() bool
	// RestartOnce restarts the machine by its firmware, which then, and only then, reads what [bootdisk.Disk.Once] has made. It
	// returns only with an error.
	RestartOnce() error
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

// CanOnce implements [Machine]. The Raspberry Pi's boot loader says so in the device tree, from the 4 on: see
// https://www.raspberrypi.com/documentation/computers/configuration.html#part4.
func (Linux) CanOnce() bool {
	_, err := os.Stat("/proc/device-tree/chosen/bootloader/tryboot")
	return err == nil
}

// RestartOnce implements [Machine]. The kernel's driver passes the word on to the firmware.
func (Linux) RestartOnce() error {
	flush()
	words, err := unix.BytePtrFromString("0 tryboot")
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_RESTART2,
		uintptr(unsafe.Pointer(words)), 0, 0)
	return errno
}

// Restart implements [Machine].
func (Linux) Restart() error { return leave(unix.LINUX_REBOOT_CMD_RESTART) }

// PowerOff implements [Machine].
func (Linux) PowerOff() error { return leave(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// leave ends the run of the kernel with everything written.
func leave(command int) error {
	flush()
	return unix.Reboot(command)
}

// flush has everything written. /perm becomes read-only first, so that its journal is clean;
// where a program keeps it from that, the journal is there for it.
//
// A disk that does not answer is not waited for.
func flush() {
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

// canTry says whether a trial can be one of a kernel.
func (m *Manager) canTry() bool { return canKexec(m.o.Platform) || m.o.Machine.CanOnce() }

// canKexec says whether a trial may load a kernel by itself.
func canKexec(p bootdisk.Platform) bool { return p != bootdisk.Firmware }
