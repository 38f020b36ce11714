package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"kdht/appliance"
	"kdht/appliance/box"
)

func main() {
	// A second signal ends the process at once: the first one restores the default action.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	os.Exit(run(&system{
		ctx:    ctx,
		args:   os.Args[1:],
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,

		stdoutIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		stderrIsTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		columns:          columns,
		screen:           screen,

		serve: appliance.Serve,
		boot:  boot,
		again: again,
	}))
}

// columns is the width of the terminal at the moment, 80 if it does not say.
func columns() int {
	if w, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && w > 0 {
		return w
	}
	return 80
}

// screen is the size of the terminal at the moment, 80 by 24 if it does not say.
func screen() (columns, rows int) {
	if w, h, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 && h > 0 {
		return w, h
	}
	return 80, 24
}

// boot boots the machine that the program runs on as an appliance.
func boot(ctx context.Context, log *slog.Logger) (*box.Box, error) {
	l, err := box.Gokrazy()
	if err != nil {
		return nil, err
	}
	return box.Boot(ctx, l, log), nil
}
