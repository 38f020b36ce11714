package discover

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// receive deals with a packet.
func (t *Task) receive(p packet, now time.Time) (changed bool) {
	f := t.ifaces[p.socket.index]
	if f == nil || f.sockets[p.socket.family] != p.socket {
		return false // of a socket that was closed
	}
	if p.err != nil {
		f.fault(p.socket.family, p.err)
		f.drop(p.socket)
		f.reopen = now.Add(openPause)
		return false
	}
	if !f.sentBy(p.from.Addr()) {
		t.count(droppedOffLink)
		return false
	}
	q, found, err := parse(p.data)
	switch {
	case err != nil:
		t.count(droppedMalformed)
	case q != nil:
		t.count(receivedQuery)
		f.asked(q, p, now)
	case p.from.Port() != port: // RFC 6762, section 11
		t.count(droppedPort)
	default:
		for i := range found {
			changed = t.heard(f, &found[i], p.from.Addr(), now) || changed
		}
	}
	return changed
}

// heard deals with an instance in a response.
func (t *Task) heard(f *iface, s *instance, sender netip.Addr, now time.Time) (changed bool) {
	switch f.hear(s, sender, now) {
	case heardUs:
	case heardOther:
		t.count(ignoredOther)
	case heardOffLink:
		t.count(ignoredOffLink)
	case heardTooMany:
		t.count(ignoredTooMany)
	case heardKnown:
		t.count(receivedResponse)
	case heardGoodbye:
		t.count(receivedResponse)
		t.say(now, "a neighbour has left", "interface", f.link.Name, "name", s.Name)
		return true
	case heardNew:
		t.count(receivedResponse)
		t.say(now, "found a neighbour", "interface", f.link.Name, "name", s.Name, "addresses", f.onLink(s))
		return true
	}
	return false
}

// Neighbours decide how much there is to log of them: after the first lines there is one more every few seconds.
const (
	firstLines = 30
	lineEvery  = 5 * time.Second
)

// say logs what has become of a neighbour, at the level of debugging once that is too often.
func (t *Task) say(now time.Time, msg string, attrs ...any) {
	if more := int(now.Sub(t.logged) / lineEvery); more > 0 {
		t.lines, t.logged = min(t.lines+more, firstLines), now
	}
	level := slog.LevelInfo
	if t.lines--; t.lines < 0 {
		t.lines, level = 0, slog.LevelDebug
	}
	t.log.Log(context.Background(), level, msg, attrs...)
}
