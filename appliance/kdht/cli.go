package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"kdht/appliance/box"
	"kdht/config"
)

// system is what the program touches of its surroundings, so that tests can stand in for them.
type system struct {
	ctx    context.Context // one per process; commands get it from here
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	stdoutIsTerminal, stderrIsTerminal bool
	columns                            func() int                 // of the terminal; nil: 80
	screen                             func() (columns, rows int) // of standard output, if it is a terminal; nil: 80 and 24

	serve box.ServeFunc
	boot  func(context.Context, *slog.Logger) (*box.Box, error)
	again func() error // starts the program anew in the place of this process; nil: who started it does
}

// say prints a line for people, which is no part of the result.
func (s *system) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.stderr, format+"\n", args...) // nobody is left to tell
}

// commands is the command line.
type commands struct {
	Serve    serveCmd    `cmd:"" group:"node" help:"Run a node until it is told to stop."`
	Status   statusCmd   `cmd:"" group:"node" help:"Show what a running node does."`
	Config   configCmd   `cmd:"" group:"node" help:"Show or check the configuration."`
	Bundle   bundleCmd   `cmd:"" group:"node" help:"Get a support bundle of a node."`
	Update   updateCmd   `cmd:"" group:"node" help:"Update a box that runs the appliance."`
	Name     nameCmd     `cmd:"" group:"node" help:"Read and change the names of a fleet."`
	Get      getCmd      `cmd:"" group:"client" help:"Get an item from the DHT."`
	Put      putCmd      `cmd:"" group:"client" help:"Put an item into the DHT."`
	Announce announceCmd `cmd:"" group:"client" help:"Announce this machine as a peer."`
	Peers    peersCmd    `cmd:"" group:"client" help:"Find the peers of an infohash."`
	Ping     pingCmd     `cmd:"" group:"client" help:"Ask one node whether it is there."`
	Find     findCmd     `cmd:"" group:"client" help:"Find the nodes closest to a target."`
	Keygen   keygenCmd   `cmd:"" group:"tool" help:"Make a key for mutable items."`
	Decode   decodeCmd   `cmd:"" group:"tool" help:"Show datagrams as JSON."`
	Version  versionCmd  `cmd:"" group:"tool" help:"Print the version."`
}

const description = "A node of a Kademlia DHT that speaks the Mainline protocol (BitTorrent's), answers from the kernel, and stores in a " +
	"database; and clients for any such DHT."

// exitNow unwinds the parser when it has printed help.
type exitNow int

// run runs one command line and returns the exit code.
func run(s *system) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exitNow:
			code = int(r)
		default:
			panic(r)
		}
	}()
	var cli commands
	parser, err := kong.New(&cli,
		kong.Name("kdht"),
		kong.Description(description),
		kong.Writers(s.stdout, s.stderr),
		kong.Exit(func(c int) { panic(exitNow(c)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "node", Title: "A node of one's own:"},
			{Key: "client", Title: "Asking any DHT:"},
			{Key: "tool", Title: "Tools:"},
			{Key: "dht", Title: "Which DHT to ask:"},
		}),
	)
	if err != nil {
		panic(err) // the tags above are wrong, and every test says so
	}
	ctx, err := parser.Parse(usual(s.args))
	if err != nil {
		return s.complain(parseFailure(err))
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == "via" && p.Flag.Target.String() == "" {
			return s.complain(usage("write HOST or HOST:PORT after it, or leave it out to ask the DHT from here", "--via is empty"))
		}
	}
	ctx.BindTo(s.ctx, (*context.Context)(nil))
	command := func() error { return ctx.Run(s) }
	if ctx.Command() == "serve" { // it takes the time it needs to stop cleanly
		err = command()
	} else {
		err = s.unlessInterrupted(command)
	}
	if err != nil {
		return s.complain(classify(err))
	}
	return exitOK
}

// grace is for how long after a signal a command may go on: what waits for a pipe or a terminal does not notice it.
const grace = time.Second

// unlessInterrupted runs f, and leaves it alone when it has not ended some time after a signal.
func (s *system) unlessInterrupted(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-s.ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return s.ctx.Err()
	}
}

// usual gives the command line that people mean who write it as other programs have it.
func usual(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) == 1 && args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// printHelp prints the help of the program, or of one command.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	if n := ctx.Selected(); n == nil || n.Leaf() && (n.Group == nil || n.Group.Key != "tool") {
		_, err := fmt.Fprint(ctx.Stdout, "\n"+exitHelp())
		return err
	}
	return nil
}

// parseFailure turns the parser's complaint into ours, with the help that would have avoided it.
func parseFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	command := "kdht"
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		if n := pe.Context.Selected(); n != nil {
			command = n.FullPath()
		}
	}
	if strings.Contains(err.Error(), "missing unit in duration") {
		return usage("write a number with its unit, as in 500ms, 5s or 2m", "%s", err)
	}
	if strings.Contains(err.Error(), "expected a valid 64 bit int") {
		return usage("write a whole number, as in 7", "%s", err)
	}
	return usage(fmt.Sprintf("%q shows how to write it, with examples", command+" --help"), "%s", err)
}

// complain prints an error and what to do next, and returns the exit code.
func (s *system) complain(f *failure) int {
	if f.said {
		return f.code
	}
	var faults config.Errors
	if errors.As(f.err, &faults) && f.msg == "" {
		for _, e := range faults { // FILE:LINE:COL first, as editors and people expect
			s.say("%s", e)
		}
		return f.code
	}
	s.say("kdht: %s", strings.TrimSpace(f.Error()))
	if f.hint != "" {
		s.say("  %s", f.hint)
	}
	return f.code
}
