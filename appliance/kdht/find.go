package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"kdht/router"
	"kdht/router/krpc"
)

type findCmd struct {
	Target string `arg:"" help:"Target, 40 hexadecimal digits."`

	clientFlags
}

func (findCmd) Help() string {
	return `Prints the nodes closest to the target that answered, closest first: how many leading bits of their ID they share
with the target, ID, address.

Examples:

  kdht find e5f96f6f38320f0f33959cb4d3d656452117aadb
  kdht find --json e5f96f6f38320f0f33959cb4d3d656452117aadb`
}

// Run finds nodes.
func (c *findCmd) Run(s *system) error {
	target, err := parseID("target", c.Target)
	if err != nil {
		return err
	}
	var res *router.NodesResult
	err = c.with(s, func(ctx context.Context, n *router.Node) (err error) {
		p := s.newProgress("find", "")
		defer p.end()
		res, err = n.FindNode(ctx, target, p.option())
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(struct {
			Target krpc.ID       `json:"target"`
			Nodes  []contactJSON `json:"nodes"`
			Lookup statsJSON     `json:"lookup"`
		}{target, contactsJSON(res.Nodes), costJSON(res.Stats)})
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	for _, n := range res.Nodes {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\n", router.PrefixLen(target, n.ID), n.ID, n.Addr) // Flush has the error
	}
	return w.Flush()
}
