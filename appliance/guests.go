package appliance

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// Guests bounds the connections to a server so that there is always room for one more: a connection that comes too much
// ends another, of the source that has most of them. Idle ones go first, then the oldest; never one that is kept.
type Guests struct {
	max, perSource int
	source         func(net.Conn) string

	mu  sync.Mutex
	all map[net.Conn]*Connection
}

// Connection is one that a client has to a server with [Guests].
type Connection struct {
	of     *Guests
	from   string
	since  time.Time
	busy   bool          // a request is being read or answered
	kept   bool          // until that was answered
	closed chan struct{} // closed when it is
}

// ConnectionOf gives the connection by which a request came; nil elsewhere than at a server with [Guests], such as that of the status
// page.
func ConnectionOf(ctx context.Context) *Connection {
	x, _ := ctx.Value(guestKey{}).(*Connection)
	return x
}

// Open says whether the connection still is; one that is not known is not.
func (x *Connection) Open() bool {
	if x == nil {
		return false
	}
	select {
	case <-x.closed:
		return false
	default:
		return true
	}
}

// Wait waits until the connection has ended, at most for some time.
func (x *Connection) Wait(most time.Duration) {
	if x == nil {
		return
	}
	select {
	case <-x.closed:
	case <-time.After(most):
	}
}

// NewGuests lets in so many connections, of one source at most perSource. source names where a connection comes from; it is called
// before the next one is accepted. A server with guests accepts from [Guests.Listener], and has [Guests.Track] look on.
func NewGuests(most, perSource int, source func(net.Conn) string) *Guests {
	return &Guests{max: most, perSource: perSource, source: source, all: make(map[net.Conn]*Connection)}
}

// address names the source of a connection by its IP address.
func address(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().String()
	}
	return ""
}

// Track has a server tell of its connections, which it accepts from listeners of the guests, or by TLS over what it accepts from them.
func (g *Guests) Track(s *http.Server) { s.ConnState, s.ConnContext = g.track, g.context }

// Listener accepts the guests that come to another listener.
func (g *Guests) Listener(l net.Listener) net.Listener { return door{l, g} }

type door struct {
	net.Listener
	guests *Guests
}

// Accept implements [net.Listener].
func (d door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		admitted, victim := d.guests.admit(c, d.guests.source(c))
		if victim != nil {
			_ = victim.Close() // whose it was finds out
		}
		if admitted {
			return c, nil
		}
		_ = c.Close()
	}
}

// admit adds a connection, unless all others that could go for it are kept, and names the one to be closed for it.
func (g *Guests) admit(c net.Conn, from string) (admitted bool, victim net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := make(map[string]int)
	for _, x := range g.all {
		count[x.from]++
	}
	if crowded := count[from] >= g.perSource; crowded || len(g.all) >= g.max {
		for conn, x := range g.all {
			if x.kept || crowded && x.from != from {
				continue
			}
			if victim == nil || x.before(g.all[victim], count) {
				victim = conn
			}
		}
		if victim == nil {
			return false, nil
		}
		g.remove(victim)
	}
	g.all[c] = &Connection{of: g, from: from, since: time.Now(), closed: make(chan struct{})}
	return true, victim
}

// remove forgets a connection that ends. g.mu is held.
func (g *Guests) remove(c net.Conn) {
	close(g.all[c].closed)
	delete(g.all, c)
}

// before says that a connection is to go before another one.
func (x *Connection) before(y *Connection, count map[string]int) bool {
	if count[x.from] != count[y.from] {
		return count[x.from] > count[y.from]
	}
	if x.busy != y.busy {
		return y.busy
	}
	return x.since.Before(y.since)
}

// accepted is the connection that was accepted, under one with TLS.
func accepted(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// track is the ConnState of the server.
func (g *Guests) track(c net.Conn, s http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c = accepted(c)
	x := g.all[c]
	switch {
	case x == nil: // it had to go
	case s == http.StateClosed || s == http.StateHijacked:
		g.remove(c)
	case s == http.StateIdle:
		x.busy, x.kept = false, false
	default:
		x.busy = s == http.StateActive
	}
}

type guestKey struct{}

// context is the ConnContext of the server.
func (g *Guests) context(ctx context.Context, c net.Conn) context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	return context.WithValue(ctx, guestKey{}, g.all[accepted(c)])
}

// KeepConnection has the connection of a request not be closed for others that come, until the request was answered: for
// clients that have shown their credentials. Elsewhere than at a server with [Guests] it does nothing.
func KeepConnection(ctx context.Context) {
	if x := ConnectionOf(ctx); x != nil {
		x.of.mu.Lock()
		defer x.of.mu.Unlock()
		x.kept = true
	}
}
