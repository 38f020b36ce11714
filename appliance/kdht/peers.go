package main

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"

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
  kdht peers --via 10.0.0.7 d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e
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
	if c.Via != "" {
		return c.peersVia(s, infohash)
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
	var count *countJSON
	if c.Scrape {
		count = &countJSON{res.Counted, int(math.Round(res.Seeds)), int(math.Round(res.Downloaders))}
	}
	peers := addresses(slices.Values(res.Peers))
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
		err = s.printLines(peers)
	}
	if err == nil && len(peers) == 0 {
		return noPeers(fmt.Sprintf("the %d closest nodes", len(res.Nodes)))
	}
	return err
}

// peersVia has a node find peers.
func (c *peersCmd) peersVia(s *system, infohash krpc.ID) error {
	a, err := c.ask(s, krpc.Message{
		Method: krpc.MethodGetPeers, InfoHash: infohash, HasInfoHash: true, NoSeed: c.NoSeeds, Scrape: c.Scrape,
		Want: krpc.WantN4 | krpc.WantN6,
	})
	switch {
	case err != nil:
		return err
	case a.Values == nil && (!a.Recursive || !c.JSON):
		return c.missing(a, noPeers("any node that should know"))
	}
	j := struct {
		Infohash krpc.ID  `json:"infohash"`
		Peers    []string `json:"peers"`
		Count    *struct {
			Seeds       int `json:"seeds"`
			Downloaders int `json:"downloaders"`
		} `json:"count,omitempty"`
		viaJSON
	}{Infohash: infohash, Peers: addresses(krpc.Peers(a.Values)), viaJSON: a.json()}
	if len(a.BFSeeds) == len(krpc.BloomFilter{}) && len(a.BFPeers) == len(krpc.BloomFilter{}) {
		j.Count = &struct {
			Seeds       int `json:"seeds"`
			Downloaders int `json:"downloaders"`
		}{int(math.Round((*krpc.BloomFilter)(a.BFSeeds).Estimate())), int(math.Round((*krpc.BloomFilter)(a.BFPeers).Estimate()))}
	}
	if c.JSON {
		err = s.printJSON(j)
	} else {
		if j.Count != nil {
			s.say("about %d %s and %d %s", j.Count.Seeds, plural(j.Count.Seeds, "seed"), j.Count.Downloaders, plural(j.Count.Downloaders, "downloader"))
		}
		err = s.printLines(j.Peers)
	}
	if err == nil && a.Values == nil {
		return noPeers("any node that should know")
	}
	return err
}

// noPeers says that nobody knows peers.
func noPeers(whom string) *failure {
	return &failure{code: exitNotFound, msg: "no peers are known to " + whom, hint: "peers appear when they announce themselves, and are forgotten after about 30 minutes"}
}

// addresses gives addresses as text.
func addresses(all iter.Seq[netip.AddrPort]) []string {
	text := []string{} // an empty list, not null
	for a := range all {
		text = append(text, a.String())
	}
	return text
}
