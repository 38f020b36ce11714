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
	Image   imageCmd   `cmd:"" help:"Build the disk image of an instance."`
	Flash   flashCmd   `cmd:"" help:"Build an image and write it to a disk or card."`
	VM      vmCmd      `cmd:"" name:"vm" help:"Run the appliance in QEMU."`
	Update  updateCmd  `cmd:"" help:"Build an instance and update a box with it."`
	Release releaseCmd `cmd:"" help:"Make a signed release."`
}

const description = "Builds disk images of the appliance, writes them to disks, runs them in a virtual machine, and sends updates."

func main() {
	var cli commands
	parser := kong.Parse(&cli,
		kong.Name("build"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}))
	ctx, stop := interrupted()
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

// interrupted returns a context that ends with the next SIGINT or SIGTERM.
func interrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
}
