// Package audit keeps what happens again and again from filling the audit log (package store).
package audit

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"kdht/store"
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

// Log is where entries go.
type Log interface{ AddAudit(store.Audit) error }

const (
	// failureEvery is how often the audit log has that the same was tried in vain, and maxFailures how much different it has in that time.
	failureEvery = 24 * time.Hour
	maxFailures  = 100
)

// Failures notes what was refused or did not work, so seldom that nobody floods the log by it. All methods may be called by any goroutine.
type Failures struct {
	to  Log
	log *slog.Logger

	mu     sync.Mutex
	seldom Seldom
}

// NewFailures makes one that notes in an audit log; that it cannot be written, the other log says.
func NewFailures(to Log, log *slog.Logger) *Failures {
	return &Failures{to: to, log: log, seldom: Seldom{Every: failureEvery, Most: maxFailures}}
}

// Note notes a failure, unless one with the same key has an entry of the last day, and reports whether it did. The key is to have nothing that
// who fails can make up.
func (f *Failures) Note(key string, a store.Audit) bool {
	f.mu.Lock()
	more, ok, full := f.seldom.Admit(key, a.Time)
	f.mu.Unlock()
	switch {
	case ok:
		a.Outcome += more
	case full:
		a.What, a.Outcome = "failures", fmt.Sprintf("more than %d different within a day: others have no entry", maxFailures)
	default:
		return false
	}
	a.Failed = true
	if err := f.to.AddAudit(a); err != nil {
		f.log.Error("the audit log cannot be written", "err", err)
	}
	return true
}
