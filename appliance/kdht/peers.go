package main

import (
	"context"
	"fmt"
	"math"

	"kdht/router"
	"kdht/router/krpc"
)

type peersCmd struct {
	Infohash string `arg:"" help:"Infohash, 40 hexadecimal digits."`

	NoSeeds bool `help:"Leave out peers that have everything (BEP 33)."`
	Scrape  bool `help:"Also estimate how many seeds and downloaders there are (BEP 33)."`

	clientFlags
}

func (peersCmd) Help() string {
	return `Prints the addresses of the peers found, one per line.

Examples:

  kdht peers d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e
  kdht peers --scrape d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e
  kdht peers --json --timeout 5s d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e`
}

// countJSON is the estimated number of peers as JSON.
type countJSON struct {
	Nodes       int `json:"nodes"` // that counted
	Seeds       int `json:"seeds"`
	Downloaders int `json:"downloaders"`
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
		if c.Scrape {
			opts = append(opts, router.WithScrape())
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
	var count *countJSON
	if c.Scrape {
		count = &countJSON{res.Counted, int(math.Round(res.Seeds)), int(math.Round(res.Downloaders))}
	}
	if c.JSON {
		err = s.printJSON(struct {
			Infohash krpc.ID       `json:"infohash"`
			Peers    []string      `json:"peers"`
			Count    *countJSON    `json:"count,omitempty"`
			Nodes    []contactJSON `json:"nodes"`
			Lookup   statsJSON     `json:"lookup"`
		}{infohash, peers, count, contactsJSON(res.Nodes), costJSON(res.Stats)})
	} else {
		if count != nil {
			s.say("about %d %s and %d %s, as counted by %d %s", count.Seeds, plural(count.Seeds, "seed"),
				count.Downloaders, plural(count.Downloaders, "downloader"), count.Nodes, plural(count.Nodes, "node"))
		}
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
