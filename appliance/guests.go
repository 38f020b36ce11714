package appliance

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// guests bounds the connections to the status page so that there is always room for one more: a connection that comes too much
// ends another, of the address that has most of them. Idle ones go first, then the oldest; never one that is kept.
type guests struct {
	net.Listener
	max, perAddress int

	mu  sync.Mutex
	all map[net.Conn]*Connection
}

// Connection is one that a client has to the status page.
type Connection struct {
	of     *guests
	from   netip.Addr
	since  time.Time
	busy   bool          // a request is being read or answered
	kept   bool          // until that was answered
	closed chan struct{} // closed when it is
}

// ConnectionOf gives the connection by which a request came; nil elsewhere than under [Host.Handle].
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

func newGuests(l net.Listener, most, perAddress int) *guests {
	return &guests{Listener: l, max: most, perAddress: perAddress, all: make(map[net.Conn]*Connection)}
}

// Accept implements [net.Listener].
func (g *guests) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Addr
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			from = a.AddrPort().Addr().Unmap()
		}
		admitted, victim := g.admit(c, from)
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
func (g *guests) admit(c net.Conn, from netip.Addr) (admitted bool, victim net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := make(map[netip.Addr]int)
	for _, x := range g.all {
		count[x.from]++
	}
	if crowded := count[from] >= g.perAddress; crowded || len(g.all) >= g.max {
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
func (g *guests) remove(c net.Conn) {
	close(g.all[c].closed)
	delete(g.all, c)
}

// before says that a connection is to go before another one.
func (x *Connection) before(y *Connection, count map[netip.Addr]int) bool {
	if count[x.from] != count[y.from] {
		return count[x.from] > count[y.from]
	}
	if x.busy != y.busy {
		return y.busy
	}
	return x.since.Before(y.since)
}

// track is the ConnState of the server.
func (g *guests) track(c net.Conn, s http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
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
func (g *guests) context(ctx context.Context, c net.Conn) context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	return context.WithValue(ctx, guestKey{}, g.all[c])
}

// KeepConnection has the connection of a request not be closed for others that come, until the request was answered: for
// clients that have shown their credentials. Elsewhere than under [Host.Handle] it does nothing.
func KeepConnection(ctx context.Context) {
	if x := ConnectionOf(ctx); x != nil {
		x.of.mu.Lock()
		defer x.of.mu.Unlock()
		x.kept = true
	}
}
