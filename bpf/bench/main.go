// Command bench measures what an answered query costs, against a bare XDP
// reflector and other nodes, in one run on one machine.
//
// Two network namespaces are joined by a veth pair: the node on one core, an
// AF_XDP load generator on the other. Every subject takes turns with the
// reflector several times a second, so that a drift of the machine's speed, or
// other work on it, meets both alike; the table shows medians of the ratios
// within such pairs. It needs root and two cores.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"
)

var cli struct {
	Rounds    int           `help:"Rounds in which every subject is started and measured." default:"2"`
	Pairs     int           `help:"Turns of the reflector and a subject, per round and kind of query." default:"30"`
	Slice     time.Duration `help:"How long a turn is." default:"100ms"`
	Neighbors int           `help:"Nodes that fill the routing tables." default:"600"`
	Binary    string        `help:"kdht program to measure; built from ./appliance/kdht when empty." type:"existingfile"`
	Set       []string      `help:"Keys of kdht's configuration, as in kdht serve --set." sep:"none" default:"limits.exempt=198.18.0.0/15" placeholder:"KEY=VALUE"`
	Query     []string      `help:"Kinds of query to measure (ping, find_node, get_peers, get)."`
	Hops      int           `help:"Measure instead what the kernel half adds to the hop of a recursion, in so many." placeholder:"N"`
	Only      []string      `help:"Names of subjects to measure ('kdht (kernel)', 'kdht (user space)', libtorrent)."`
}

func main() {
	kong.Parse(&cli, kong.Description("Measures what an answered DHT query costs, against a bare XDP reflector and libtorrent."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	r, err := newRig()
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := r.close(); err == nil {
			err = closeErr
		}
	}()
	if cli.Hops > 0 {
		h, err := r.newHops()
		if err != nil {
			return err
		}
		if err := h.run(ctx, cli.Hops); err != nil {
			return err
		}
		return h.print(os.Stdout)
	}
	if r.binary = cli.Binary; r.binary == "" {
		dir, err := os.MkdirTemp("", "kdht-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		r.binary = filepath.Join(dir, "kdht")
		if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", r.binary, "./appliance/kdht").CombinedOutput(); err != nil {
			return fmt.Errorf("build kdht: %w\n%s", err, out)
		}
	}
	if r.swarm, err = r.newSwarm(cli.Neighbors); err != nil {
		return err
	}
	results, err := r.rounds(ctx)
	if err != nil {
		return err
	}
	return results.print(os.Stdout)
}
