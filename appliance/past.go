package appliance

import (
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"kdht/appliance/history"
	"kdht/appliance/status"
)

// HistoryFile is the name of the file in the state directory that has the history of the last day.
const HistoryFile = "history.json"

// newHistory returns what keeps the past of the node.
func (p *process) newHistory() *history.Recorder {
	return history.New(history.Options{
		Read: func() history.Reading { return reading(p.report()) },
		File: filepath.Join(p.cfg.State, HistoryFile),
		Log:  p.log,
	})
}

// recursed are the router's counters of recursive queries that were taken on, in one way or another.
var recursed = map[string]bool{
	"begun": true, "answered from the store": true, "answered from the cache": true, "joined one under way": true,
}

// reading is what the history keeps of a report.
func reading(r status.Report) (x history.Reading) {
	x[history.Lookups] = float64(r.Lookups)
	for _, c := range r.Node {
		v := float64(c.Value)
		switch {
		case c.Group == "query answered":
			x[history.User] += v
		case c.Group == "drop":
			x[history.UserDropped] += v
		case c.Group == "query sent":
			x[history.Sent] += v
		case c.Group == "recursion" && recursed[c.Name]:
			x[history.Recursions] += v
		}
	}
	for _, c := range r.XDP.Counters {
		v := float64(c.Packets)
		switch {
		case c.Query != "":
			x[history.Kernel] += v
		case c.Reason == "limited" || c.Reason == "overloaded":
			x[history.KernelDropped] += v
		}
	}
	if len(r.XDP.Counters) == 0 {
		x[history.Kernel], x[history.KernelDropped] = math.NaN(), math.NaN()
	}
	x[history.RTT4], x[history.RTT6] = math.NaN(), math.NaN()
	for _, f := range r.Families {
		if f.RTT == 0 {
			continue
		}
		if f.Family == familyName(0) {
			x[history.RTT4] = f.RTT
		} else {
			x[history.RTT6] = f.RTT
		}
	}
	return x
}

// shownEvents is how many lines of the log the status page has.
const shownEvents = 12

// events are the last lines of the log, the newest first, as everybody may see them.
func (p *process) events() (all []status.Event) {
	for _, l := range slices.Backward(p.journal.Lines(shownEvents, slog.LevelInfo)) {
		var detail []string
		for _, a := range l.Public().Attrs {
			detail = append(detail, a.Key+"="+a.Value)
		}
		all = append(all, status.Event{Time: l.Time, Level: l.Level.String(), Message: l.Message, Detail: strings.Join(detail, " ")})
	}
	return all
}

// shownChanges is how many entries of the audit log the status page has.
const shownChanges = 10

// changes are the last entries of the audit log, the newest first.
func (p *process) changes() (all []status.Change) {
	entries, err := p.store.Audit(shownChanges)
	if err != nil {
		p.log.Debug("audit log not read", "err", err)
	}
	for _, a := range entries {
		all = append(all, status.Change{Time: a.Time, Who: a.Who, What: a.What, Outcome: a.Outcome})
	}
	return all
}
