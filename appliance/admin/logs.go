package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tailscale.com/tailcfg"

	"kdht/appliance/journal"
	"kdht/appliance/status"
)

// stillEvery is how often whoever follows the log or the page is looked up again: his role may be taken from him.
const stillEvery = time.Second

// log serves the last lines of the log: ?n= of them (100), ?level= at least so severe, and with ?follow those that come. As
// text, or if that is accepted as JSON, one object per line.
func (g *gate) log(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, least := 100, slog.LevelDebug
	if s := q.Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			fail(w, http.StatusBadRequest, "n is how many lines.")
			return
		}
	}
	if s := q.Get("level"); s != "" && least.UnmarshalText([]byte(s)) != nil {
		fail(w, http.StatusBadRequest, "level is debug, info, warn or error.")
		return
	}
	follow := q.Has("follow")
	if follow {
		node := caller(r).who.Node.StableID
		if !g.followsToo(node) {
			fail(w, http.StatusServiceUnavailable, fmt.Sprintf("Too many follow the log already: %d from your node, or %d altogether.", maxPerFollower, maxFollowers))
			return
		}
		defer g.followsNoMore(node)
	}
	write, kind := writeText, "text/plain; charset=utf-8"
	if accept := strings.Join(r.Header.Values("Accept"), ","); status.Quality(accept, "application", "jsonl") > status.Quality(accept, "text", "plain") {
		write, kind = writeJSON, "application/jsonl"
	}
	w.Header().Set("Content-Type", kind)
	rc := http.NewResponseController(w)
	out := patientWriter{w, rc}
	last := g.p.h.Journal.Last()
	for _, l := range g.p.h.Journal.Lines(n, least) {
		if write(out, l) != nil {
			return
		}
		last = max(last, l.Seq)
	}
	if !follow {
		return
	}
	if rc.Flush() != nil {
		return
	}
	ctx, stop := whileMayLook(r)
	defer stop()
	for l := range g.p.h.Journal.Follow(ctx, last, least) {
		if write(out, l) != nil || rc.Flush() != nil {
			return // the client has gone
		}
	}
}

// whileMayLook is the context of a request that follows something: it ends when its caller may not look any more, which is looked up every
// stillEvery, and with the plane's session, or the stop would wait for those who follow.
func whileMayLook(r *http.Request) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	forget := context.AfterFunc(sessionOf(ctx), cancel)
	go func() {
		who := caller(r)
		tick := time.NewTicker(stillEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if who.still(ctx)&Viewer == 0 {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, func() { forget(); cancel() }
}

// followsToo adds one who follows the log from a node, if there is room.
func (g *gate) followsToo(node tailcfg.StableNodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := 0
	for _, n := range g.follow {
		all += n
	}
	if all >= maxFollowers || g.follow[node] >= maxPerFollower {
		return false
	}
	g.follow[node]++
	return true
}

func (g *gate) followsNoMore(node tailcfg.StableNodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.follow[node]--; g.follow[node] == 0 {
		delete(g.follow, node)
	}
}

func writeText(w io.Writer, l journal.Line) error {
	text := l.String() + "\n"
	if l.Missed > 0 {
		text = "(" + strconv.FormatUint(l.Missed, 10) + " lines are missing here)\n" + text
	}
	_, err := io.WriteString(w, text)
	return err
}

func writeJSON(w io.Writer, l journal.Line) error { return json.NewEncoder(w).Encode(l) }
