package gateway

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"kdht/appliance/audit"
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
	callers map[string]*audit.Seldom // by ID, or name; all that come when there are too many share that of ""
}

// note notes that a request was carried out. Its entry is durable when it returns.
func (l *ledger) note(who Caller, r *http.Request) {
	what := "write: " + r.Method + " " + r.URL.Path
	now := l.now()
	outcome, ok := l.admit(cmp.Or(who.ID, who.Name), what, now)
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
	more, ok, full := l.account(caller, now).Admit(caller+"\n"+what, now)
	switch {
	case ok:
		return "done" + more, true
	case full:
		return fmt.Sprintf("more than %d different within an hour: others have no entry", maxLedger), false
	}
	return "", false
}

// account is that of a caller.
func (l *ledger) account(caller string, now time.Time) *audit.Seldom {
	if a := l.callers[caller]; a != nil {
		return a
	}
	if len(l.callers) >= maxCallers {
		maps.DeleteFunc(l.callers, func(_ string, a *audit.Seldom) bool { return a.Forget(now) })
		if len(l.callers) >= maxCallers {
			caller = ""
			if a := l.callers[caller]; a != nil {
				return a
			}
		}
	}
	if l.callers == nil {
		l.callers = make(map[string]*audit.Seldom)
	}
	a := &audit.Seldom{Every: ledgerEvery, Most: maxLedger}
	l.callers[caller] = a
	return a
}
