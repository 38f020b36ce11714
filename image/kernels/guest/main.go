//go:build linux

// Command guest is the init of a test machine: it mounts the kernel's file
// systems, runs /test as /guest.json says, reports the exit code on the console
// and switches the machine off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"kdht/image/kernels/internal/protocol"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Println("guest:", err)
	}
	fmt.Printf("\n%s%d\n", protocol.ExitMarker, code)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest: power off:", err)
	}
	// init must not return: the kernel would panic over the report above.
	select {}
}

func run() (code int, err error) {
	mounts := []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/tmp", "tmpfs"},
		{"bpf", "/sys/fs/bpf", "bpf"},
	}
	for _, m := range mounts {
		// The kernel may have mounted devtmpfs already.
		if err := unix.Mount(m.source, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return 1, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	raw, err := os.ReadFile("/guest.json")
	if err != nil {
		return 1, err
	}
	var job protocol.Job
	if err := json.Unmarshal(raw, &job); err != nil {
		return 1, fmt.Errorf("guest.json: %w", err)
	}
	cmd := exec.Command("/test", job.Args...)
	cmd.Dir = job.Dir
	cmd.Env = append([]string{"PATH=/", "HOME=/tmp", "TMPDIR=/tmp"}, job.Env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
