package kernels

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kernel is one stock kernel and the virtual machine that it boots on.
type Kernel struct {
	// Name tells the kernels apart: amd64, arm64, rpi.
	Name string
	// GOARCH is the architecture to build guest programs for.
	GOARCH string

	module  string
	qemu    string
	machine []string
	console string
}

// Stock lists the kernels that users of the appliance boot: the two generic
// ones (7.1; the amd64 one has no BPF JIT) and the Raspberry Pi's (6.12), which
// has the virtio drivers built in and boots on QEMU's virt machine.
func Stock() []Kernel {
	arm := []string{"-machine", "virt", "-cpu", "cortex-a72"}
	return []Kernel{
		{Name: "amd64", GOARCH: "amd64", module: "github.com/gokrazy/kernel.amd64",
			qemu: "qemu-system-x86_64", machine: []string{"-machine", "q35", "-cpu", "max"}, console: "ttyS0"},
		{Name: "rpi", GOARCH: "arm64", module: "github.com/gokrazy/kernel.rpi",
			qemu: "qemu-system-aarch64", machine: arm, console: "ttyAMA0"},
		{Name: "arm64", GOARCH: "arm64", module: "github.com/gokrazy/kernel.arm64",
			qemu: "qemu-system-aarch64", machine: arm, console: "ttyAMA0"},
	}
}

// QEMU is the name of the emulator that the kernel needs on PATH.
func (k Kernel) QEMU() string { return k.qemu }

// Image fetches the pinned module when it is not in the module cache yet and
// returns the path of its kernel image. builddir is the folder of the modules
// that pin what images are built from.
func (k Kernel) Image(ctx context.Context, builddir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", k.module)
	cmd.Dir = filepath.Join(builddir, filepath.FromSlash(k.module))
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr == nil && module.Error != "" {
		err = errors.New(module.Error)
	}
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", k.module, withStderr(err))
	}
	return filepath.Join(module.Dir, "vmlinuz"), nil
}

// withStderr adds what a failed command printed to its error.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}
