package appliance

import (
	"context"
	"net"
)

// DialFunc opens connections, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Dialer is a way to some addresses beside the machine's own network: mine says whether an address is one of them.
type Dialer func(ctx context.Context, network, addr string) (c net.Conn, mine bool, err error)

// DialBy adds a way.
func (h *Host) DialBy(d Dialer) { h.dialers = append(h.dialers, d) }

// Dial opens a connection for what the program asks of others of its own accord, such as releases: by the way that an extension
// has added for the address, as through a tailnet, else by the machine's network.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	for _, d := range h.dialers {
		if c, mine, err := d(ctx, network, addr); mine {
			return c, err
		}
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
