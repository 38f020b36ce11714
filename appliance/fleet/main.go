package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main is the frame of a program that runs a fleet, and does not return: as root, with a temporary directory of its own, which is
// removed at the end, until f returns or somebody wants it to end.
func Main(name string, f func(ctx context.Context, dir string) error) {
	if err := framed(name, f); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func framed(name string, f func(ctx context.Context, dir string) error) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and XDP need root: sudo make " + name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "kdht-"+name+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return f(ctx, dir)
}
