package main

import (
	"context"
	"fmt"

	"kdht/router"
	"kdht/router/krpc"
)

type peersCmd struct {
	Infohash string `arg:"" help:"Infohash, 40 hexadecimal digits."`

	NoSeeds bool `help:"Leave out peers that have everything (BEP 33)."`

	clientFlags
}

func (peersCmd) Help() string {
	return `Prints the addresses of the peers found, one per line.

Examples:

  kdht peers d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e
  kdht peers --json --timeout 5s d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e`
}

// Run finds peers.
func (c *peersCmd) Run(s *system) error {
	infohash, err := parseID("infohash", c.Infohash)
	if err != nil {
		return err
	}
	var res *router.PeersResult
	err = c.with(s, func(ctx context.Context, n *router.Node) (err error) {
		p := s.newProgress("peers", "peers")
		defer p.end()
		opts := []router.Option{p.option()}
		if c.NoSeeds {
			opts = append(opts, router.WithoutSeeds())
		}
		res, err = n.Peers(ctx, infohash, opts...)
		return err
	})
	if err != nil {
		return err
	}
	peers := make([]string, len(res.Peers))
	for i, p := range res.Peers {
		peers[i] = p.String()
	}
	if c.JSON {
		err = s.printJSON(struct {
			Infohash krpc.ID       `json:"infohash"`
			Peers    []string      `json:"peers"`
			Nodes    []contactJSON `json:"nodes"`
			Lookup   statsJSON     `json:"lookup"`
		}{infohash, peers, contactsJSON(res.Nodes), costJSON(res.Stats)})
	} else {
		for _, p := range peers {
			if _, err = fmt.Fprintln(s.stdout, p); err != nil {
				break
			}
		}
	}
	if err == nil && len(peers) == 0 {
		return &failure{code: exitNotFound, msg: fmt.Sprintf("no peers are known to the %d closest nodes", len(res.Nodes)), hint: "peers appear when they announce themselves, and are forgotten after about 30 minutes"}
	}
	return err
}
