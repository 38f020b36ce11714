package discover

import (
	"math/rand/v2"
	"time"
)

const (
	// announcements are sent so often when something is new, and queries go on for ever; the pause before the next of
	// them doubles from pauseMin, that between queries to pauseMax.
	announcements = 3
	pauseMin      = time.Second
	pauseMax      = 30 * time.Second
	// Bounds of the random delay before the first query, and before an answer (RFC 6762, sections 5.2 and 6).
	delayMin = 20 * time.Millisecond
	delayMax = 120 * time.Millisecond
)

// schedule is when something is sent next, and the pause after that; the zero schedule is never.
type schedule struct {
	at    time.Time
	pause time.Duration
	left  int // how often; negative: without end
}

func (s *schedule) start(now time.Time, often int) {
	*s = schedule{at: now.Add(delay()), pause: pauseMin, left: often}
}

// due reports whether it is time, and sets the next one.
func (s *schedule) due(now time.Time) bool {
	if s.at.IsZero() || now.Before(s.at) {
		return false
	}
	s.next(now)
	return true
}

// next takes something as sent. Pauses vary by a tenth, so that hosts that started together do not go on together.
func (s *schedule) next(now time.Time) {
	if s.left > 0 {
		if s.left--; s.left == 0 {
			*s = schedule{}
			return
		}
	}
	s.wait(now)
	s.pause = min(2*s.pause, pauseMax)
}

// wait puts off what is scheduled by the present pause.
func (s *schedule) wait(now time.Time) {
	if !s.at.IsZero() {
		s.at = now.Add(s.pause - s.pause/20 + rand.N(s.pause/10))
	}
}

func delay() time.Duration { return delayMin + rand.N(delayMax-delayMin) }
