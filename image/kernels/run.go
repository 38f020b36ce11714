package kernels

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"kdht/image/kernels/internal/protocol"
)

// ErrNoReport means that the guest stopped, or was stopped, without saying how
// its test binary ended: a kernel panic, a hang, or a boot that never got to init.
var ErrNoReport = errors.New("the guest ended without reporting an exit code")

// Guest is what to boot and what to run in it.
type Guest struct {
	Kernel Kernel
	// Image is the kernel image, from [Kernel.Image].
	Image string
	// Init and Test are static programs for the kernel's architecture: the
	// built package guest, and the test binary.
	Init, Test string
	// Files maps paths in the guest to files or folders here.
	Files map[string]string
	// Args, Env and Dir are those of the test binary.
	Args, Env []string
	Dir       string
	// MemoryMiB is the guest's memory in MiB.
	MemoryMiB int
	// Disks are images, which the guest sees as virtio disks /dev/vda, /dev/vdb and so on.
	Disks []string
	// Sticks are images, which the guest finds a moment after its start as removable USB disks /dev/sda, /dev/sdb and so on.
	Sticks []string
	// Append is added to the kernel's command line.
	Append string
}

// lockedWriter lets the console and the emulator's own messages share a writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// Run boots the guest, copies its console to w, and returns the exit code of
// the test binary. scratch is a folder for the initramfs. The machine is
// killed when ctx ends.
func (g Guest) Run(ctx context.Context, scratch string, w io.Writer) (code int, err error) {
	job, err := json.Marshal(protocol.Job{Args: g.Args, Env: g.Env, Dir: g.Dir})
	if err != nil {
		return 0, err
	}
	jobFile := filepath.Join(scratch, "guest.json")
	if err := os.WriteFile(jobFile, job, 0o644); err != nil {
		return 0, err
	}
	entries := map[string]string{"init": g.Init, "test": g.Test, "guest.json": jobFile}
	for guest, host := range g.Files {
		entries[guest] = host
	}
	archive := filepath.Join(scratch, "initramfs.cpio")
	if err := initramfs(archive, entries); err != nil {
		return 0, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Without no_timer_check an x86 kernel that is slowed down too much at its start takes the timer for broken. An arm64 kernel whose
	// address is random also hides itself from user space, and then every system call empties the emulator's TLB twice.
	args := append([]string{}, g.Kernel.machine...)
	args = append(args,
		"-accel", "tcg,thread=single", "-smp", "1", "-m", strconv.Itoa(g.MemoryMiB),
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-nodefaults", "-no-reboot",
		"-kernel", g.Image, "-initrd", archive,
		"-append", strings.TrimSpace("console="+g.Kernel.console+" panic=-1 no_timer_check nokaslr rdinit=/init loglevel=4 "+g.Append))
	for _, d := range g.Disks {
		args = append(args, "-drive", "if=virtio,format=raw,file="+d)
	}
	if len(g.Sticks) > 0 {
		args = append(args, "-device", "qemu-xhci")
	}
	for i, s := range g.Sticks {
		id := fmt.Sprintf("stick%d", i)
		args = append(args, "-drive", "if=none,format=raw,id="+id+",file="+s, "-device", "usb-storage,removable=on,drive="+id)
	}
	cmd := exec.CommandContext(ctx, g.Kernel.qemu, args...)
	cmd.WaitDelay = 5 * time.Second
	out := &lockedWriter{w: w}
	cmd.Stderr = out
	console, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", g.Kernel.qemu, err)
	}
	code, found := 0, false
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Fprintln(out, line)
		if rest, ok := strings.CutPrefix(line, protocol.ExitMarker); ok {
			if n, err := strconv.Atoi(rest); err == nil {
				code, found = n, true
				// Some machines cannot switch themselves off.
				cancel()
			}
		}
	}
	waitErr := cmd.Wait()
	if found {
		return code, nil
	}
	return 0, errors.Join(ErrNoReport, waitErr, lines.Err())
}
