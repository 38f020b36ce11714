// Command demo runs a fleet of nodes in network namespaces, with the kernel half attached to each, and shows them live
// on one screen. It needs root; everything is removed when it ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"kdht/appliance/fleet"
)

type options struct {
	Nodes    int           `help:"Nodes of the fleet." default:"20"`
	Clients  int           `help:"Clients that put and get items all the time, each through random nodes." default:"2"`
	XDP      string        `help:"Mode of the kernel half: ${enum}." enum:"native,generic,auto,off" default:"native"`
	Duration time.Duration `help:"End after this time; 0: on Ctrl-C, or after one picture where the output is no terminal."`
	Binary   string        `help:"kdht program; built when empty." type:"existingfile"`
}

const description = `Runs a fleet of DHT nodes in network namespaces and shows them on one screen.

Examples:

    make demo
    make demo ARGS="--nodes 8 --clients 0"
    go run ./appliance/fleet/demo --duration 1m | cat`

func main() {
	var o options
	kong.Parse(&o, kong.Name("demo"), kong.Description(description))
	fleet.Main("demo", func(ctx context.Context, dir string) error { return run(ctx, dir, o) })
}

func run(ctx context.Context, dir string, o options) (err error) {
	if o.Nodes < 1 || o.Nodes > fleet.MaxHosts-1 {
		return fmt.Errorf("--nodes %d is not from 1 to %d", o.Nodes, fleet.MaxHosts-1)
	}
	if o.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Duration)
		defer cancel()
	}
	fmt.Fprintf(os.Stderr, "starting %d nodes, each in a network namespace of its own ...\n", o.Nodes)
	f, err := fleet.New(ctx, fleet.Options{Nodes: o.Nodes, Dir: dir, Binary: o.Binary, XDP: o.XDP})
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it began
		}
		return err
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "stopping the fleet ...")
		err = errors.Join(err, f.Close())
	}()
	c := startClients(ctx, f, o.Clients)
	defer c.wait()

	size := int(os.Stdout.Fd())
	if !term.IsTerminal(size) {
		return plain(ctx, f, c, o)
	}
	// The alternate screen keeps what was on the terminal; the cursor would only flicker.
	fmt.Print("\x1b[?1049h\x1b[?25l")
	defer fmt.Print("\x1b[?25h\x1b[?1049l")
	v := newView(f, c)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		width, height, err := term.GetSize(size)
		if err != nil {
			width, height = 80, 24
		}
		v.refresh(ctx)
		fmt.Print("\x1b[H" + v.render(width, height, "\x1b[K\r\n") + "\x1b[J")
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// plain prints one picture: at the end of the duration, or after a few seconds of traffic.
func plain(ctx context.Context, f *fleet.Fleet, c *clients, o options) error {
	v := newView(f, c)
	v.refresh(ctx)
	wait := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		// Nodes must be asked while there is time left.
		wait = max(0, time.Until(deadline)-time.Second)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(wait):
	}
	v.refresh(ctx)
	fmt.Print(v.render(80, 1000, "\n"))
	return nil
}
