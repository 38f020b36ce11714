// Package audit keeps what happens again and again from filling the audit log (package store).
package audit

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// Seldom decides what becomes an entry: of the same one within Every, and at most Most different ones in that time. One goroutine
// at a time may call it.
type Seldom struct {
	Every time.Duration
	Most  int

	noted  map[string]*noted
	others int       // what found no room since the last entry
	full   time.Time // of the entry that there is no more room; zero if there was none
}

// noted is something that has an entry.
type noted struct {
	at    time.Time // of its entry
	again int       // how often since then
}

// Admit reports whether something becomes an entry, and what else is to be said in it, "" or as in " (3 times more since the entry before)". full
// says that it is the first in Every that finds no room, which is to have an entry that says so.
func (s *Seldom) Admit(what string, now time.Time) (more string, ok, full bool) {
	n := s.noted[what]
	if n != nil && now.Sub(n.at) < s.Every {
		n.again++
		return "", false, false
	}
	if n == nil && len(s.noted) >= s.Most {
		if s.Forget(now); len(s.noted) >= s.Most {
			s.others++
			full = s.full.IsZero() || now.Sub(s.full) >= s.Every
			if full {
				s.full = now
			}
			return "", false, full
		}
	}
	var words []string
	if n != nil && n.again > 0 {
		words = append(words, fmt.Sprintf("%d times more since the entry before", n.again))
	}
	if s.others > 0 {
		words = append(words, fmt.Sprintf("%d others have no entry", s.others))
	}
	if s.noted == nil {
		s.noted = make(map[string]*noted)
	}
	s.noted[what], s.others = &noted{at: now}, 0
	if words != nil {
		more = " (" + strings.Join(words, ", ") + ")"
	}
	return more, true, false
}

// Forget makes room where there were entries long enough ago, and reports whether there is nothing left.
func (s *Seldom) Forget(now time.Time) (empty bool) {
	maps.DeleteFunc(s.noted, func(_ string, n *noted) bool { return now.Sub(n.at) >= s.Every })
	return len(s.noted) == 0
}
