package vm

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// Machine is a kind of machine, and how it starts.
type Machine struct {
	// Name tells the kinds apart.
	Name string
	// Instance is the image that boots on it; see package pack.
	Instance string

	qemu     string
	args     []string
	firmware string // file; empty: built in
	direct   bool   // QEMU loads kernel and command line from the boot file system by itself
}

var arm = []string{"-machine", "virt", "-cpu", "cortex-a72"}

// BIOS is a PC with a BIOS (SeaBIOS).
func BIOS() Machine {
	return Machine{Name: "amd64-bios", Instance: "amd64", qemu: "qemu-system-x86_64", args: []string{"-machine", "q35", "-cpu", "max"}}
}

// UEFI is a PC with UEFI firmware (OVMF, Debian package ovmf).
func UEFI() Machine {
	m := BIOS()
	m.Name, m.firmware = "amd64-uefi", "/usr/share/ovmf/OVMF.fd"
	return m
}

// ARM64 is an arm64 machine with UEFI firmware (Debian package qemu-efi-aarch64).
func ARM64() Machine {
	return Machine{Name: "arm64-uefi", Instance: "arm64", qemu: "qemu-system-aarch64", args: arm, firmware: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}
}

// Pi is no Raspberry Pi, which QEMU has none of that could run the appliance: it is QEMU's arm64 machine, started with the
// Pi's kernel, command line and root file system from the image for the Pi. The Pi's firmware is played, as far as it chooses what
// it starts; its device trees and drivers are not exercised.
func Pi() Machine {
	return Machine{Name: "rpi-kernel", Instance: "rpi", qemu: "qemu-system-aarch64", args: arm, direct: true}
}

// Watched returns the machine with a hardware watchdog, which resets it when its system has fed it and ceases to. The stock
// kernel for PCs has a driver for it.
func (m Machine) Watched() Machine {
	m.args = append(append([]string{}, m.args...), "-device", "i6300esb", "-action", "watchdog=reset")
	return m
}

// QEMU is the name of the emulator.
func (m Machine) QEMU() string { return m.qemu }

// Check says what is missing here to run the machine, nil if nothing is.
func (m Machine) Check() error {
	if _, err := exec.LookPath(m.qemu); err != nil {
		return fmt.Errorf("%w (on Debian, as root: .ci/setup)", err)
	}
	if m.firmware == "" {
		return nil
	}
	if _, err := os.Stat(m.firmware); err != nil {
		return fmt.Errorf("firmware: %w (on Debian, as root: .ci/setup)", err)
	}
	return nil
}

// boot returns the arguments that start the disk; dir is for files that QEMU reads.
func (m Machine) boot(disk *Disk, dir string, hardware []string) ([]string, error) {
	args := append(append([]string{}, m.args...), hardware...)
	if m.firmware != "" {
		args = append(args, "-bios", m.firmware)
	}
	if !m.direct {
		return args, nil
	}
	loaded, err := m.load(disk, dir, hardware)
	return append(args, loaded...), err
}

// nicArgs returns the arguments for one network card.
func nicArgs(i int, n NIC) []string {
	id := "net" + strconv.Itoa(i)
	device := "virtio-net-pci,netdev=" + id
	if n.queues > 1 {
		device += fmt.Sprintf(",mq=on,vectors=%d", 2*n.queues+2)
	}
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	return []string{"-netdev", n.backend + ",id=" + id, "-device", device}
}
