package admin

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"tailscale.com/net/tsaddr"
)

// dial opens a connection to a node of the tailnet: one that is named by its whole name there, or by an address that the tailnet
// knows. A name of the tailnet is asked of nobody else, also while the box is not in it: whoever answers on the LAN would be taken for the node.
func (p *plane) dial(ctx context.Context, network, addr string) (c net.Conn, mine bool, err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, false, nil //nolint:nilerr // whoever dials next says what is wrong with it
	}
	server := p.tailnet.Load()
	serves, why := p.now.serves() // else it may be one that somebody else has logged the box in to
	serves = serves && server != nil
	if ip, err := netip.ParseAddr(host); err == nil {
		if !serves || !tsaddr.IsTailscaleIP(ip) {
			return nil, false, nil
		}
		client, err := server.LocalClient()
		if err != nil {
			return nil, false, err
		}
		if _, err := client.WhoIs(ctx, addr); err != nil { // the range is that of providers' NAT as well
			return nil, false, nil //nolint:nilerr // it is not in the tailnet
		}
	} else if !p.now.inDomain(host) {
		return nil, false, nil
	} else if !serves {
		if why != "" {
			why = ": " + why
		}
		return nil, true, fmt.Errorf("the box is not in the tailnet that has %s%s", host, why)
	}
	c, err = server.Dial(ctx, network, addr)
	return c, true, err
}

// inDomain reports whether a name is one of the tailnet's that the box is in, or was in last.
func (s *state) inDomain(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.domain != "" && strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), "."+s.domain)
}

// domainOf is the domain of a node's name, in lower case; "" if it has none.
func domainOf(name string) string {
	_, domain, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
	return domain
}
