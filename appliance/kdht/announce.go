package main

import (
	"context"
	"errors"
	"fmt"

	"kdht/router"
	"kdht/router/krpc"
)

type announceCmd struct {
	Infohash string `arg:"" help:"Infohash, 40 hexadecimal digits."`

	PeerPort int  `required:"" placeholder:"PORT" help:"TCP or UDP port on which this machine serves peers of the infohash."`
	Seed     bool `help:"This peer has everything (BEP 33)."`

	clientFlags
}

func (announceCmd) Help() string {
	return `Tells the nodes closest to the infohash that this machine's address, with the port given, is a peer. Nodes forget
peers after about 30 minutes, so repeat it in time.

They take the address of a peer from where the announce comes from. So a node that announces with --via speaks only for
machines that others see at its own address, such as those behind the same NAT; other peers it keeps to itself.

Examples:

  kdht announce d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e --peer-port 51413
  kdht announce d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e --peer-port 51413 --seed --json
  kdht announce --via 192.168.1.7 d3f1bd8086cf17b5907f47ae0b8dcbda4da64e7e --peer-port 51413`
}

// Run announces a peer.
func (c *announceCmd) Run(s *system) error {
	infohash, err := parseID("infohash", c.Infohash)
	if err != nil {
		return err
	}
	if c.PeerPort < 1 || c.PeerPort > 65535 {
		return usage("write 1 to 65535", "%d is no port for peers to connect to", c.PeerPort)
	}
	port := uint16(c.PeerPort)
	if c.Via != "" {
		q := krpc.Message{Method: krpc.MethodAnnouncePeer, InfoHash: infohash, HasInfoHash: true, Port: port, HasPort: true, Seed: c.Seed, HasSeed: true}
		return c.storeVia(s, q, &router.Item{Target: infohash})
	}
	var res *router.StoreResult
	err = c.with(s, func(ctx context.Context, n *router.Node) (err error) {
		p := s.newProgress("announce", "")
		defer p.end()
		res, err = n.Announce(ctx, infohash, port, c.Seed, p.option())
		return err
	})
	if c.JSON && res != nil {
		return errors.Join(err, s.printJSON(storeJSON(res)))
	}
	if err != nil {
		return err
	}
	s.sayStored(res)
	_, err = fmt.Fprintln(s.stdout, infohash)
	return err
}
