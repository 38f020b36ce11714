// Command experiment forms a network of real nodes on this machine and shows what recursion in the kernel is worth there: that a
// client of any one node gets everything with one datagram, how long that takes beside iterative clients, and what becomes of it
// when packets are lost, nodes die and nodes lie.
//
// Every node is a `kdht serve` process in a network namespace of its own, with its own XDP program. It needs root and
// python3-libtorrent; everything is removed when it ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"kdht/appliance/fleet"
)

type options struct {
	Nodes    int             `help:"Nodes of the network." default:"200"`
	Bits     int             `help:"b of their routing tables. With 1 a table knows the fewest others, so that lookups take the most hops." default:"4"`
	Items    int             `help:"Items that are put, every tenth of them mutable." default:"1000"`
	Tried    int             `help:"Nodes that are asked for every item, over IPv4 and IPv6." default:"20"`
	Delays   []time.Duration `help:"One-way delays of the links between hosts." default:"0s,1ms,20ms"`
	Gets     int             `help:"Gets of every kind of client at every delay." default:"250"`
	Programs int             `help:"Of those, how many clients that begin anew for every get do." default:"20"`
	Faulty   int             `help:"Gets under every kind of fault." default:"300"`
	Share    float64         `help:"Share of the packets that are lost, the nodes that die, and the nodes that lie." default:"0.2"`
	Seed     uint64          `help:"What is drawn at random is drawn from it; the nodes' IDs and all times differ anyway." default:"1"`
	Binary   string          `help:"kdht program; built when empty." type:"existingfile"`
	Python   string          `help:"Python that has the module libtorrent." default:"/usr/bin/python3"`
	Out      string          `help:"Write the results there, too, as Markdown." placeholder:"FILE"`
}

const description = `Forms a network of real nodes in network namespaces, XDP on each, and measures recursion in it.

Examples:

    make fleet
    make fleet ARGS="--bits 1"
    make fleet ARGS="--nodes 40 --items 100 --tried 4 --gets 50 --faulty 50"`

func main() {
	var o options
	kong.Parse(&o, kong.Name("experiment"), kong.Description(description))
	fleet.Main("fleet", func(ctx context.Context, dir string) error { return start(ctx, dir, o) })
}

func start(ctx context.Context, dir string, o options) error {
	r, err := run(ctx, o, dir, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print(text)
	for delay, kinds := range r.timed {
		for _, s := range kinds {
			for _, odd := range s.odd {
				fmt.Fprintf(os.Stderr, "%s, links of %v: %s\n", s.name, delay, odd)
			}
		}
	}
	for _, s := range r.suffered {
		for _, odd := range s.odd {
			fmt.Fprintf(os.Stderr, "%s: %s\n", s.name, odd)
		}
	}
	if o.Out != "" {
		err = os.WriteFile(o.Out, []byte(text), 0o644)
	}
	return err
}

// check finds faults of the options.
func (o *options) check() error {
	liars := int(float64(o.Nodes) * o.Share)
	switch {
	case o.Nodes < 10:
		return fmt.Errorf("--nodes %d: fewer than 10 are no network", o.Nodes)
	case o.Nodes+liars+10 > fleet.MaxHosts:
		return fmt.Errorf("--nodes %d: with the clients and liars these are more than %d hosts", o.Nodes, fleet.MaxHosts)
	case o.Items < 20 || o.Tried < 1 || o.Tried > o.Nodes/2:
		return fmt.Errorf("--items %d must be at least 20, and --tried %d from 1 to half of the nodes", o.Items, o.Tried)
	case o.Gets < 1 || o.Programs < 0 || o.Faulty < 1 || len(o.Delays) == 0:
		return errors.New("--gets and --faulty must be positive, --programs not negative, and --delays not empty")
	case o.Gets*len(o.Delays) > o.Items*3/4:
		// A node that has fetched an item keeps it, and then there is nothing to measure; and a tenth are mutable, and some held by who
		// is to look for them.
		return fmt.Errorf("--gets %d for each of %d delays needs %d --items", o.Gets, len(o.Delays), (o.Gets*len(o.Delays)*4+2)/3)
	case o.Share <= 0 || o.Share > 0.5:
		return fmt.Errorf("--share %v is not more than 0 and at most 0.5", o.Share)
	}
	return nil
}
