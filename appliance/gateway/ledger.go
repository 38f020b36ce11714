package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"kdht/config"
	"kdht/store"
)

const (
	// ledgerEvery is how often the audit log has that the same caller has written the same.
	ledgerEvery = time.Hour
	// maxLedger is how much different it has of one caller in that time: a program may write a name every second.
	maxLedger = 100
	// maxCallers is of how many callers that is kept track. The configuration has at most 64 tokens; members of a tailnet are without number.
	maxCallers = 256
)

// ledger notes in the audit log what callers with authority have written. Those without put only what carries its own proof, and change
// nothing that is the box's.
type ledger struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	callers map[string]*account // by name; all that come when there are too many share that of ""
}

// account is what one caller has written.
type account struct {
	noted  map[string]*written // by caller and what
	others int                 // writings that found no room since the last entry
	full   time.Time           // of the entry that there is no more room; zero if there was none
}

// written is something that a caller has written.
type written struct {
	at    time.Time // of its entry
	again int       // how often since then
}

// note notes that a request was carried out. Its entry is durable when it returns.
func (l *ledger) note(who Caller, r *http.Request) {
	what := "write: " + r.Method + " " + r.URL.Path
	now := l.now()
	outcome, ok := l.admit(who.Name, what, now)
	switch {
	case ok:
	case outcome != "":
		what = "write"
	default:
		return
	}
	name := who.Name
	if name != config.Loopback {
		name += " from " + remote(r).String()
	}
	err := l.store.AddAudit(store.Audit{Time: now.UTC(), Who: name, What: what, Outcome: outcome, Put: true})
	if err != nil {
		l.log.Error("the audit log cannot be written", "err", err)
	}
}

// admit decides whether something becomes an entry, and gives its outcome. Of what finds no room the first has an outcome, too, which says
// that there is none.
func (l *ledger) admit(caller, what string, now time.Time) (outcome string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, key := l.account(caller, now), caller+"\n"+what
	w := a.noted[key]
	if w != nil && now.Sub(w.at) < ledgerEvery {
		w.again++
		return "", false
	}
	if w == nil && len(a.noted) >= maxLedger {
		a.forget(now)
		if len(a.noted) >= maxLedger {
			a.others++
			if !a.full.IsZero() && now.Sub(a.full) < ledgerEvery {
				return "", false
			}
			a.full = now
			return fmt.Sprintf("more than %d different within an hour: others have no entry", maxLedger), false
		}
	}
	var words []string
	if w != nil && w.again > 0 {
		words = append(words, fmt.Sprintf("%d times more since the entry before", w.again))
	}
	if a.others > 0 {
		words = append(words, fmt.Sprintf("%d other writes have no entry", a.others))
	}
	a.noted[key], a.others = &written{at: now}, 0
	outcome = "done"
	if words != nil {
		outcome += " (" + strings.Join(words, ", ") + ")"
	}
	return outcome, true
}

// account is that of a caller.
func (l *ledger) account(caller string, now time.Time) *account {
	if a := l.callers[caller]; a != nil {
		return a
	}
	if len(l.callers) >= maxCallers {
		maps.DeleteFunc(l.callers, func(_ string, a *account) bool { a.forget(now); return len(a.noted) == 0 })
		if len(l.callers) >= maxCallers {
			caller = ""
			if a := l.callers[caller]; a != nil {
				return a
			}
		}
	}
	if l.callers == nil {
		l.callers = make(map[string]*account)
	}
	a := &account{noted: make(map[string]*written)}
	l.callers[caller] = a
	return a
}

// forget makes room where there were entries more than an hour ago.
func (a *account) forget(now time.Time) {
	maps.DeleteFunc(a.noted, func(_ string, w *written) bool { return now.Sub(w.at) >= ledgerEvery })
}
