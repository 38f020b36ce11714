package update

import (
	"fmt"
	"net/http"
	"time"

	"kdht/appliance"
)

const (
	// sessionLife is how long after the last request of an update the next one of the same client is waited for.
	sessionLife = 2 * time.Minute
	// parting is how long the end of a connection may come after the first request on the next one.
	parting = time.Second
)

// client is who asks for something.
type client struct {
	name string                // for the history
	conn *appliance.Connection // nil: not known
}

func clientOf(r *http.Request) client { return client{who(r), appliance.ConnectionOf(r.Context())} }

// session is an update that a client is in the middle of. Its steps are requests of their own, and gokrazy's protocol has
// nothing that joins them, so it belongs to a source and a kind of client that has shown the password, and to its connection as long as
// that is open: two clients of one kind on one machine do not get into each other's update.
type session struct {
	by    client
	until time.Time // once nothing is under way
}

// taken says who else is in the middle of an update; nil if nobody is. m.mu is held.
func (m *Manager) taken(by client, now time.Time) error {
	s := m.session
	own := s.by.name == by.name && (s.by.conn == by.conn || !s.by.conn.Open())
	if s.by.name != "" && !own && now.Before(s.until) {
		return fmt.Errorf("%w (%s): wait until it is done, or %d s", ErrSession, s.by.name, int(s.until.Sub(now)/time.Second)+1)
	}
	return nil
}

// await waits until it is known that the connection has ended on which a client came before: one that makes a new one for every
// request is often faster than the news.
func (m *Manager) await(by client) {
	m.mu.Lock()
	was := m.session.by
	m.mu.Unlock()
	if was.name == by.name && was.conn != by.conn {
		was.conn.Wait(parting)
	}
}

// extend lets the session of a client go on, or begins one. m.mu is held.
func (m *Manager) extend(by client) { m.session = session{by: by, until: time.Now().Add(sessionLife)} }
