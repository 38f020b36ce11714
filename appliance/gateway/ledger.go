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
	// ledgerEvery is how often the audit log has that the same caller has written the same, and maxLedger how much different it has
	// in that time: a program may write a name every second.
	ledgerEvery = time.Hour
	maxLedger   = 100
)

// ledger notes in the audit log what callers with authority have written. Those without put only what carries its own proof, and change
// nothing that is the box's.
type ledger struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	noted  map[string]*written // by caller and what
	others int                 // writings that found no room since the last entry
}

// written is what a caller has written.
type written struct {
	at    time.Time // of its entry
	again int       // how often since then
}

// note notes that a request was carried out. Its entry is durable when it returns.
func (l *ledger) note(who Caller, r *http.Request) {
	what := "write: " + r.Method + " " + r.URL.Path
	outcome, ok := l.admit(who.Name+"\n"+what, l.now())
	if !ok {
		return
	}
	name := who.Name
	if name != config.Loopback {
		name += " from " + remote(r).String()
	}
	err := l.store.AddAudit(store.Audit{Time: l.now().UTC(), Who: name, What: what, Outcome: outcome, Put: true})
	if err != nil {
		l.log.Error("the audit log cannot be written", "err", err)
	}
}

// admit decides whether something becomes an entry, and gives its outcome.
func (l *ledger) admit(key string, now time.Time) (outcome string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.noted[key]
	if w != nil && now.Sub(w.at) < ledgerEvery {
		w.again++
		return "", false
	}
	if w == nil && len(l.noted) >= maxLedger {
		maps.DeleteFunc(l.noted, func(_ string, w *written) bool { return now.Sub(w.at) >= ledgerEvery })
		if len(l.noted) >= maxLedger {
			l.others++
			return "", false
		}
	}
	var words []string
	if w != nil && w.again > 0 {
		words = append(words, fmt.Sprintf("%d times more since the entry before", w.again))
	}
	if l.others > 0 {
		words = append(words, fmt.Sprintf("%d other writes have no entry", l.others))
	}
	if l.noted == nil {
		l.noted = make(map[string]*written)
	}
	l.noted[key], l.others = &written{at: now}, 0
	outcome = "done"
	if words != nil {
		outcome += " (" + strings.Join(words, ", ") + ")"
	}
	return outcome, true
}
