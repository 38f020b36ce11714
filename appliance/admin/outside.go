package admin

import (
	"context"
	"net"
	"net/url"
	"time"

	"tailscale.com/ipn"
)

const (
	// answerTime is how long a control server has to take a connection, and askEvery how often a trial tries.
	answerTime = 3 * time.Second
	askEvery   = 5 * time.Second
)

// outside is somebody beyond the LAN who answered when a change was made, without the DHT and without the tailnet: the address of the
// control server, "" if there is nobody. A change that only concerns those has not made him silent.
type outside struct {
	addr string

	at     time.Time // when he was asked last
	silent bool
}

// answering is the address of a control server, "" if it does not take a connection: it may be reached through a proxy only.
func answering(ctx context.Context, controlURL string) string {
	addr := addrOf(controlURL)
	if addr == "" || !answers(ctx, addr) {
		return ""
	}
	return addr
}

// addrOf is host and port of a control server; "" is Tailscale's URL.
func addrOf(controlURL string) string {
	if controlURL == "" {
		controlURL = ipn.DefaultControlURL
	}
	u, err := url.Parse(controlURL)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		if port = "443"; u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// answers says whether anybody takes a TCP connection at an address.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// gone says that he who answered then does not now. It takes up to answerTime, and asks no more often than askEvery.
func (o *outside) gone(ctx context.Context) bool {
	if o.addr == "" {
		return false
	}
	if now := time.Now(); now.Sub(o.at) >= askEvery {
		silent := !answers(ctx, o.addr)
		o.at, o.silent = now, silent
	}
	return o.silent
}
