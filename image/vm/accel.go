package vm

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// The requests of the KVM device that show that it works; see linux/kvm.h.
const (
	kvmCreateVM   = 0xae01
	kvmCreateVCPU = 0xae41
)

// Accel returns the fastest accelerator that works here for the machine: KVM if its processor is of this machine's kind and
// the kernel lets us make one, else the emulator.
func (m Machine) Accel() string {
	own := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if own == "" || !strings.HasSuffix(m.qemu, own) || m.Instance == "rpi" || !kvmWorks() {
		return "tcg,thread=single"
	}
	return "kvm"
}

func kvmWorks() bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	machine, err := unix.IoctlRetInt(int(f.Fd()), kvmCreateVM)
	if err != nil {
		return false
	}
	defer unix.Close(machine)
	cpu, err := unix.IoctlRetInt(machine, kvmCreateVCPU)
	if err != nil {
		return false
	}
	return unix.Close(cpu) == nil
}
