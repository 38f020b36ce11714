package status

import (
	stdbytes "bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"kdht/appliance/history"
)

// renderer makes pages of reports, and the parts of pages that change.
type renderer struct {
	report func() Report
	past   *history.Recorder
	charts charts
	log    *slog.Logger
	seats  seats

	mu    sync.Mutex
	parts []part
	at    time.Time // of parts
}

func newRenderer(report func() Report, past *history.Recorder, log *slog.Logger) *renderer {
	return &renderer{report: report, past: past, charts: charts{log: log}, log: log}
}

// view takes stock.
func (x *renderer) view() view {
	v := view{Report: x.report(), past: x.past.History()}
	v.fill()
	v.minutes, v.day = x.charts.draw(v.past)
	return v
}

// part is the content of an element of the page.
type part struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// partNames are the elements, and templates, of which the page is made.
var partNames = []string{"hero", "tiles", "minutes", "day", "queries", "hottest", "kernel", "recursion", "store", "machine", "events", "extras"}

// current returns the parts as they are now. All who follow have the same, which are made once.
func (x *renderer) current() []part {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.parts != nil && time.Since(x.at) < history.MinuteStep/2 {
		return x.parts
	}
	v := x.view()
	x.parts, x.at = nil, time.Now()
	add := func(id, name string, data any) {
		var b stdbytes.Buffer
		if err := pages.ExecuteTemplate(&b, name, data); err != nil {
			x.log.Warn("a part of the status page cannot be made", "part", name, "err", err)
			return
		}
		x.parts = append(x.parts, part{id, b.String()})
	}
	for _, name := range partNames {
		add(name, name, v)
	}
	for _, f := range v.Families {
		add("table-"+f.Family, "table", f)
	}
	return x.parts
}

// again tells a page whose seat somebody else has to come again in half a minute, and not at once for that of the next.
const again = "retry: 30000\n\n"

// writeTime is how long a follower may take to read what he is sent.
const writeTime = 10 * time.Second

// live sends the parts of the page that have changed, at each step of the history, as server-sent events: "part", with the ID
// of an element and its HTML as JSON.
func (x *renderer) live(w http.ResponseWriter, r *http.Request) {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	seat, ok := x.seats.take(from.Addr(), cancel)
	if !ok {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many follow this page from your address", http.StatusServiceUnavailable)
		return
	}
	defer x.seats.leave(seat)
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // the server's is for requests; where there is none, there is none
	w.Header().Set("Content-Type", "text/event-stream")
	sent := make(map[string]string)
	for {
		out := []byte(":\n\n") // so that who has gone is noticed
		for _, p := range x.current() {
			if sent[p.ID] == p.HTML {
				continue
			}
			sent[p.ID] = p.HTML
			b, err := json.Marshal(p)
			if err != nil {
				continue // strings are always well
			}
			out = append(out, "event: part\ndata: "...)
			out = append(out, b...)
			out = append(out, "\n\n"...)
		}
		_ = c.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := w.Write(out); err != nil {
			return
		}
		if err := c.Flush(); err != nil {
			return
		}
		if !x.past.Next(ctx) {
			if ctx.Err() != nil && r.Context().Err() == nil { // somebody else has the seat
				_, _ = w.Write([]byte(again)) // he may have gone
			}
			return
		}
	}
}
