package update

import (
	"fmt"
	"time"
)

// sessionLife is how long after the last request of an update the next one of the same client is waited for.
const sessionLife = 2 * time.Minute

// session is an update that a client is in the middle of. Its steps are requests of their own, and gokrazy's protocol has
// nothing that joins them, so it belongs to a source and a kind of client that has shown the password: what two clients of one kind
// on one machine send at the same time cannot be told apart.
type session struct {
	by    string
	until time.Time // once nothing is under way
}

// taken says who else is in the middle of an update; nil if nobody is. m.mu is held.
func (m *Manager) taken(by string, now time.Time) error {
	if s := m.session; s.by != "" && s.by != by && now.Before(s.until) {
		return fmt.Errorf("%w (%s): wait until it is done, or %d s", ErrSession, s.by, int(s.until.Sub(now)/time.Second)+1)
	}
	return nil
}

// extend lets the session of a client go on, or begins one. m.mu is held.
func (m *Manager) extend(by string) { m.session = session{by: by, until: time.Now().Add(sessionLife)} }
