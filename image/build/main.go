// Command build makes disk images of the appliance and puts them to use. The Makefile's verbs call it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
)

type commands struct {
	Image imageCmd `cmd:"" help:"Build the disk image of an instance."`
}

const description = "Builds disk images of the appliance, writes them to disks, runs them in a virtual machine, and sends updates."

func main() {
	var cli commands
	parser := kong.Parse(&cli,
		kong.Name("build"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	parser.BindTo(ctx, (*context.Context)(nil))
	err := parser.Run()
	if err != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n", err)
		stop()
		os.Exit(1)
	}
}
