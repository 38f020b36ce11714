package vm

import (
	"context"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Accelerators of QEMU. The emulator, in one thread, works everywhere.
const (
	emulator = "tcg,thread=single"
	// KVM runs the machine on the processor of the host.
	KVM = "kvm"
)

// probeTime is far longer than QEMU takes to make a machine that it does not start.
const probeTime = 10 * time.Second

// Accel returns the fastest accelerator that works here for the machine: KVM if its processor is of this machine's kind and
// QEMU can make one with it, else the emulator.
func (m Machine) Accel(ctx context.Context) string {
	own := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if own == "" || !strings.HasSuffix(m.qemu, own) || m.Instance == "rpi" || !m.kvmWorks(ctx) {
		return emulator
	}
	return KVM
}

// kvmWorks has QEMU make the machine and end before it runs. To open the device and create a processor there tells less:
// inside other virtual machines that succeeds, and then QEMU aborts because it may not set a register.
func (m Machine) kvmWorks(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	args := slices.Concat(m.args, accelArgs(KVM), []string{"-S", "-nodefaults", "-display", "none", "-qmp", "stdio"})
	cmd := exec.CommandContext(ctx, m.qemu, args...)
	cmd.Stdin = strings.NewReader(`{"execute":"qmp_capabilities"}{"execute":"quit"}`)
	return cmd.Run() == nil
}

// accelArgs returns the arguments for an accelerator. KVM runs no processor but the host's.
func accelArgs(name string) []string {
	args := []string{"-accel", name}
	if name == KVM {
		args = append(args, "-cpu", "max") // the last one counts
	}
	return args
}
