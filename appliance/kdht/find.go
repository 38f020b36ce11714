package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
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
  kdht find --via 10.0.0.7 e5f96f6f38320f0f33959cb4d3d656452117aadb
  kdht find --json e5f96f6f38320f0f33959cb4d3d656452117aadb`
}

// Run finds nodes.
func (c *findCmd) Run(s *system) error {
	target, err := parseID("target", c.Target)
	if err != nil {
		return err
	}
	if c.Via != "" {
		return c.findVia(s, target)
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
	return s.printNodes(target, res.Nodes)
}

// findVia has a node find nodes.
func (c *findCmd) findVia(s *system, target krpc.ID) error {
	a, err := c.ask(s, krpc.Message{Method: krpc.MethodFindNode, Target: target, HasTarget: true, Want: krpc.WantN4 | krpc.WantN6})
	switch {
	case err != nil:
		return err
	case !a.HasRecursive:
		return c.noRecursion(a)
	}
	var nodes []router.Contact
	for _, all := range []iter.Seq2[krpc.ID, netip.AddrPort]{krpc.Nodes(a.Nodes), krpc.Nodes6(a.Nodes6)} {
		for id, addr := range all {
			nodes = append(nodes, router.Contact{ID: id, Addr: addr})
		}
	}
	slices.SortStableFunc(nodes, func(a, b router.Contact) int {
		da, db := router.Distance(target, a.ID), router.Distance(target, b.ID)
		return bytes.Compare(da[:], db[:])
	})
	if !a.Recursive {
		s.say("kdht: %s ran out of time, there may be closer ones", a.from)
	}
	if c.JSON {
		return s.printJSON(struct {
			Target   krpc.ID       `json:"target"`
			Nodes    []contactJSON `json:"nodes"`
			Complete bool          `json:"complete"`
			viaJSON
		}{target, contactsJSON(nodes), a.Recursive, a.json()})
	}
	return s.printNodes(target, nodes)
}

// printNodes prints nodes with how many leading bits they share with a target.
func (s *system) printNodes(target krpc.ID, nodes []router.Contact) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	for _, n := range nodes {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\n", router.PrefixLen(target, n.ID), n.ID, n.Addr) // Flush has the error
	}
	return w.Flush()
}
