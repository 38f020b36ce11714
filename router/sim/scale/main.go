// Command scale simulates networks of 100 to a million nodes, and writes what lookups cost there.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"kdht/router/sim"
)

const description = `Simulates networks of many nodes in this process, and writes what lookups cost there.

DIR/scale.json is for programs, DIR/scale.md for people. Equal seeds give equal numbers; only the memory is measured.

Example:

  go run ./router/sim/scale --nodes 1000,10000 --bits 4 --lookups 100 --out /tmp`

var cli struct {
	Nodes   []int   `help:"Sizes of networks." default:"100,1000,10000,100000,1000000"`
	Bits    []int   `help:"Values of b, how many bits of an ID the routing table tells apart at a time." default:"1,2,3,4,5"`
	Dead    float64 `help:"Share of dead nodes in the second round of lookups." default:"0.2"`
	Lookups int     `help:"Lookups of each kind, per network and round." default:"1000"`
	Tables  int     `help:"Nodes whose tables are measured and kept up, per network." default:"8"`
	Seed    uint64  `help:"What all is drawn from." default:"1"`
	Out     string  `help:"Folder to write to." default:"router/sim" type:"existingdir" placeholder:"DIR"`
}

func main() {
	kong.Parse(&cli, kong.Name("scale"), kong.Description(description))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r := sim.Report{Plan: sim.Plan{Nodes: cli.Nodes, Bits: cli.Bits, Dead: cli.Dead, Lookups: cli.Lookups, Tables: cli.Tables, Seed: cli.Seed}}
	begin := time.Now()
	err := r.Plan.Run(ctx, func(x sim.Result) {
		r.Results = append(r.Results, x)
		f := x.Alive.FindNode
		fmt.Fprintf(os.Stderr, "%8v  %d nodes, b = %d: %.2f hops, %.1f messages, %.0f bytes\n",
			time.Since(begin).Round(100*time.Millisecond), x.Nodes, x.Bits, f.Hops, f.Messages, f.Bytes)
	})
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(cli.Out, "scale.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(cli.Out, "scale.md"))
	if err != nil {
		return err
	}
	if err := r.WriteMarkdown(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
