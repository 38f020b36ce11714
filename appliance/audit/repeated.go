package audit

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kdht/store"
)

// Log is where entries go.
type Log interface{ AddAudit(store.Audit) error }

const (
	// repeatedEvery is how often the audit log has the same again, and maxFailures and maxReads how much different it has in that time.
	repeatedEvery = 24 * time.Hour
	maxFailures   = 100
	maxReads      = 50
)

// Repeated notes what changes nothing and may come again and again, so seldom that nobody floods the log by it. What fails,
// and what is read, is kept apart from changes. All methods may be called by any goroutine.
type Repeated struct {
	to     Log
	log    *slog.Logger
	what   string // all of it, in the entry that there is no more room
	failed bool   // else it was read

	mu     sync.Mutex
	seldom Seldom
}

// Failures notes what was refused or did not work in an audit log; that it cannot be written, the other log says.
func Failures(to Log, log *slog.Logger) *Repeated {
	return &Repeated{to: to, log: log, what: "failures", failed: true, seldom: Seldom{Every: repeatedEvery, Most: maxFailures}}
}

// Reads notes what somebody has read, like [Failures].
func Reads(to Log, log *slog.Logger) *Repeated {
	return &Repeated{to: to, log: log, what: "reading", seldom: Seldom{Every: repeatedEvery, Most: maxReads}}
}

// Note makes an entry, unless one with the same key is of the last day, and reports whether it did. The key is to have nothing that who comes can
// make up or change.
func (r *Repeated) Note(key string, a store.Audit) bool {
	r.mu.Lock()
	more, ok, full := r.seldom.Admit(key, a.Time)
	r.mu.Unlock()
	switch {
	case ok:
		a.Outcome += more
	case full:
		a.What, a.Outcome = r.what, fmt.Sprintf("more than %d different within a day: others have no entry", r.seldom.Most)
	default:
		return false
	}
	a.Failed, a.Read = r.failed, !r.failed
	if err := r.to.AddAudit(a); err != nil {
		r.log.Error("the audit log cannot be written", "err", err)
	}
	return true
}
