package status

import (
	stdbytes "bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
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

// maxFollowers bounds those who follow the page, and maxPerClient those at one address, which may be several browsers behind one router, or
// one with many tabs. Others get a page that does not change.
const maxFollowers, maxPerClient = 32, 8

// seats are taken by those who follow. The zero value is empty.
type seats struct {
	mu    sync.Mutex
	all   int
	taken map[string]int // by address
}

// take takes one, if there is one left for a client.
func (s *seats) take(client string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxFollowers || s.taken[client] >= maxPerClient {
		return nil, false
	}
	if s.taken == nil {
		s.taken = make(map[string]int)
	}
	s.all++
	s.taken[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.taken[client]--; s.taken[client] == 0 {
			delete(s.taken, client)
		}
	}, true
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

// writeTime is how long a follower may take to read what he is sent.
const writeTime = 10 * time.Second

// live sends the parts of the page that have changed, at each step of the history, as server-sent events: "part", with the ID
// of an element and its HTML as JSON.
func (x *renderer) live(w http.ResponseWriter, r *http.Request) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	leave, ok := x.seats.take(client)
	if !ok {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many follow this page already, or too many from your address", http.StatusServiceUnavailable)
		return
	}
	defer leave()
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
		if err := c.Flush(); err != nil || !x.past.Next(r.Context()) {
			return
		}
	}
}
