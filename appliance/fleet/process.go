package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"kdht/bpf/netns"
)

// Process is a program that runs in a namespace and logs to a file.
type Process struct {
	LogFile string
	name    string
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // of its end, valid after done
}

// Start starts a program in a namespace. Its standard error, and its standard output unless stdout is given, go to
// NAME.log in dir.
func Start(ns *netns.NS, dir, name string, stdin io.Reader, stdout io.Writer, argv ...string) (*Process, error) {
	p := &Process{LogFile: filepath.Join(dir, name+".log"), name: name, done: make(chan struct{})}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", name, err)
	}
	defer log.Close() // the child has its own
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = dir
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, log
	if stdout == nil {
		p.cmd.Stdout = log
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us, and we stop it in order
	if err := ns.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, nil for exit status 0; it waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// ErrEnded says that a process ended that was to go on.
var ErrEnded = errors.New("the process ended")

// Ended is an [ErrEnded] with how the process ended; it waits for the end.
func (p *Process) Ended() error {
	if err := p.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return ErrEnded
}

// Poll is [Poll] for something that the process brings about: it fails with an [ErrEnded] if that ends before.
func (p *Process) Poll(ctx context.Context, interval time.Duration, f func() (bool, error)) error {
	return Poll(ctx, interval, func() (bool, error) {
		select {
		case <-p.done:
			return false, p.Ended()
		default:
			return f()
		}
	})
}

// Signal sends a signal, if the process still runs.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Stop asks the process to end with SIGTERM, kills it when it has not after the grace period, and waits.
func (p *Process) Stop(grace time.Duration) error {
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("fleet: %s did not end within %s of SIGTERM", p.name, grace)
	}
}

// Log returns the last part of the log, at most max bytes.
func (p *Process) Log(max int64) string {
	f, err := os.Open(p.LogFile)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > max {
		_, _ = f.Seek(-max, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
