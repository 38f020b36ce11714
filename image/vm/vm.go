package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to start.
type Config struct {
	Machine Machine
	Disk    *Disk
	NICs    []NIC
	// CPUs and MemoryMiB are what the machine has; 2 and 512 if 0.
	CPUs, MemoryMiB int
	// Log gets what comes out of the serial port, and QEMU's own messages. It may be nil.
	Log io.Writer
	// Accel is QEMU's accelerator; empty means its interpreter in one thread, which works everywhere.
	Accel string
	// StayOff has the machine stop instead when it reboots.
	StayOff bool
}

// VM is a machine that runs, or ran.
type VM struct {
	Console *Console

	cfg     Config
	cmd     *exec.Cmd
	dir     string
	started time.Time

	done chan struct{} // closed when QEMU has ended
	err  error         // how; set before done is closed
	loss sync.Once
}

// Start switches a machine on. It runs until it switches itself off, the power is cut, or ctx ends.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	if err := cfg.Machine.Check(); err != nil {
		return nil, err
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 2
	}
	if cfg.MemoryMiB == 0 {
		cfg.MemoryMiB = 512
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if cfg.Accel == "" {
		cfg.Accel = emulator
	}
	dir, err := os.MkdirTemp("", "kdht-vm-")
	if err != nil {
		return nil, err
	}
	v := &VM{Console: &Console{more: make(chan struct{})}, cfg: cfg, dir: dir, done: make(chan struct{})}
	if err := v.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", cfg.Machine.Name, err), os.RemoveAll(dir))
	}
	return v, nil
}

func (v *VM) start(ctx context.Context) error {
	args, err := v.cfg.Machine.boot(v.cfg.Disk, v.dir, v.cfg.hardware())
	if err != nil {
		return err
	}
	args = append(args, accelArgs(v.cfg.Accel)...)
	args = append(args, "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio", "-qmp", "unix:"+v.monitor()+",server=on,wait=off",
		"-blockdev", v.cfg.Disk.drive()+",node-name=disk", "-device", "virtio-blk-pci,drive=disk,write-cache=on")
	if v.cfg.StayOff {
		args = append(args, "-no-reboot")
	}
	start := func(cmd *exec.Cmd) error { return cmd.Start() }
	for i, n := range v.cfg.NICs {
		args = append(args, nicArgs(i, n)...)
		if n.lan != nil {
			start = n.lan.NS.Start
		}
	}
	v.cmd = exec.CommandContext(ctx, v.cfg.Machine.qemu, args...)
	v.cmd.Cancel = func() error { return v.cmd.Process.Kill() }
	v.cmd.WaitDelay = 5 * time.Second
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	log := &lockedWriter{w: v.cfg.Log}
	v.cmd.Stderr = log
	v.cfg.Disk.powerOn()
	v.started = time.Now()
	if err := start(v.cmd); err != nil {
		return err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		v.Console.read(out, log)
	}()
	go func() {
		<-read // Wait closes the pipe
		if v.Console.says(tryBoot) {
			v.cfg.Disk.setTryBoot()
		}
		v.err = v.cmd.Wait()
		_ = os.RemoveAll(v.dir)
		close(v.done)
	}()
	go func() {
		select {
		case <-v.cfg.Disk.Cut():
			_ = v.cmd.Process.Kill()
		case <-v.done:
		}
	}()
	return nil
}

// Done returns a channel that is closed when the machine has stopped.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait waits until the machine has stopped by itself, and what it had written is on its disk; an error says that QEMU failed.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the machine to stop: %w", ctx.Err())
	}
	if v.err != nil {
		return v.err
	}
	return v.cfg.Disk.flush()
}

// PowerCut cuts the power: the machine stops at once, and loss says what becomes of what it had written and not flushed.
// When the disk has cut the power already, it only applies the loss. The disk can be started again.
func (v *VM) PowerCut(loss Loss) error {
	_ = v.cmd.Process.Kill() // it may have stopped already
	<-v.done
	var err error
	v.loss.Do(func() { err = v.cfg.Disk.powerOff(loss) })
	return err
}

// Started is when the machine was switched on.
func (v *VM) Started() time.Time { return v.started }

// CPUTime is how long the machine has been computed so far.
func (v *VM) CPUTime() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), ") ") // behind the name
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc: %q", b)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	const tick = time.Second / 100 // USER_HZ
	return time.Duration(user+system) * tick, err
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
