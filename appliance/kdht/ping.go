package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kdht/config"
	"kdht/router"
	"kdht/router/krpc"
)

type pingCmd struct {
	Node string `arg:"" name:"host:port" help:"Node to ask."`

	Timeout time.Duration `default:"5s" help:"Give up after this time."`
	JSON    bool          `name:"json" help:"Print one JSON document."`
}

func (pingCmd) Help() string {
	return `Prints the node's ID, the round-trip time, the program it names itself as (v), and the address that it sees us at.

Examples:

  kdht ping router.bittorrent.com:6881
  kdht ping '[2001:db8::1]:6881'`
}

// Run pings a node.
func (c *pingCmd) Run(s *system) error {
	if c.Timeout <= 0 {
		return usage("write for example --timeout 5s", "--timeout must be more than 0s")
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	addrs, err := resolve(ctx, c.Node)
	if err != nil {
		return err
	}
	var pong router.Pong
	var from netip.AddrPort
	f := clientFlags{Network: string(config.Private)} // whoever names an address means it
	err = f.node(ctx, nil, func(n *router.Node) (err error) {
		for _, a := range addrs { // of a name with several addresses, the first that answers
			from = a
			pong, err = n.Ping(ctx, a)
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
		return err
	})
	if err != nil && s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if errors.Is(err, router.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return &failure{code: exitUnreachable, msg: c.Node + " did not answer", hint: "check address and port; a node that is behind a firewall, or limits its answers, is silent"}
	}
	if err != nil {
		return err
	}
	if c.JSON {
		j := struct {
			ID   krpc.ID `json:"id"`
			Addr string  `json:"addr"`
			MS   float64 `json:"rtt_ms"`
			V    string  `json:"v,omitempty"`  // hexadecimal
			IP   string  `json:"ip,omitempty"` // our address as the node sees it
		}{ID: pong.ID, Addr: from.String(), MS: float64(pong.RTT.Microseconds()) / 1000, V: fmt.Sprintf("%x", pong.Version)}
		if pong.IP.IsValid() {
			j.IP = pong.IP.String()
		}
		return s.printJSON(j)
	}
	line := fmt.Sprintf("%s from %s in %.2f ms", pong.ID, from, float64(pong.RTT.Microseconds())/1000)
	if len(pong.Version) > 0 {
		line += fmt.Sprintf(", v=%q", pong.Version)
	}
	if pong.IP.IsValid() {
		line += ", sees us at " + pong.IP.String()
	}
	_, err = fmt.Fprintln(s.stdout, line)
	return err
}
