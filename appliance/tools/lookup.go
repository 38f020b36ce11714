package tools

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"time"
	"unicode"
	"unicode/utf8"

	"kdht/appliance/status"
	"kdht/router"
	"kdht/router/krpc"
)

// patience bounds a lookup that somebody looks at.
const patience = 20 * time.Second

// maxSteps is more than a lookup has.
const maxSteps = 2048

// head is the beginning of the page of a lookup.
type head struct {
	status.Head
	From    string // shows that a request is from our own form
	Q       string
	What    string // "item", "peers" or "nodes"
	Refused string // why nothing is looked up
	Target  string
	Looking string // what is looked for, in words
}

// plural gives a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// row is one node of a lookup.
type row struct {
	Ms       string // since the begin
	Addr, ID string
	Referrer string
	Hops     int
	Bits     int
	Outcome  string
	Good     bool
	Found    bool
}

// tail is the end of the page.
type tail struct {
	Verdict string
	Good    bool
	Nobody  bool // was asked
	Value   string
	Facts   [][2]string
	Peers   []string
	More    int // peers that are not listed
	Nodes   []row
	Picture template.HTML // of the way
	Goal    string        // where it leads, in words
}

// maxListed bounds the peers that are listed.
const maxListed = 200

// lookup serves the page of a lookup.
func (t *tools) lookup(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query()
	h := head{Head: t.head("Look up", r), From: t.from, Q: form.Get("q"), What: form.Get("what")}
	if len(h.Q) > 2000 {
		h.Q = ""
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	refuse := func(code int, why string) {
		h.Refused = why
		w.WriteHeader(code)
		_ = t.write(w, "lookup", h) && t.write(w, "close", nil)
	}
	if h.Q == "" {
		_ = t.write(w, "lookup", h) && t.write(w, "close", nil)
		return
	}
	q, err := parseQuery(h.Q)
	if err != nil {
		refuse(http.StatusBadRequest, err.Error())
		return
	}
	if err := t.may(r); err != nil {
		refuse(http.StatusForbidden, err.Error())
		return
	}
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		w.Header().Set("Retry-After", "5")
		refuse(http.StatusServiceUnavailable, "others are looking things up: try again in a moment")
		return
	}
	switch h.What {
	case "item", "peers", "nodes":
	default:
		h.What = "item"
		if q.peers {
			h.What = "peers"
		}
	}
	if q.mutable && h.What == "peers" {
		h.What = "item"
	}
	h.Target = q.target.String()
	h.Looking = map[string]string{"item": "the item", "peers": "peers", "nodes": "the closest nodes"}[h.What]
	flusher := http.NewResponseController(w)
	if !t.write(w, "lookup", h) || !t.write(w, "rows", h) {
		return
	}
	_ = flusher.Flush() // where it cannot, the page comes at once at the end

	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	steps := make(chan router.Step, maxSteps)
	ended := make(chan tail, 1)
	go func() {
		ended <- t.run(ctx, q, h.What, router.WithSteps(func(s router.Step) {
			select {
			case steps <- s:
			default: // there are not so many
			}
		}))
		close(steps)
	}()
	var rows []row
	for s := range steps {
		if s.Kind == router.StepAsked {
			continue
		}
		rows = append(rows, rowOf(s))
		if !t.write(w, "row", rows[len(rows)-1]) {
			cancel() // nobody looks any more
		}
		_ = flusher.Flush()
	}
	end := <-ended
	end.way(rows)
	end.Nobody = len(rows) == 0
	_ = t.write(w, "result", end) && t.write(w, "close", nil)
}

// rowOf shows the step that tells how a node fared.
func rowOf(s router.Step) row {
	x := row{Ms: fmt.Sprintf("%.0f", s.After.Seconds()*1000), Addr: s.Node.Addr.String(), Hops: s.Hops, Bits: s.Bits}
	if !s.Node.ID.IsZero() {
		x.ID = s.Node.ID.String()
	}
	if s.Referrer.IsValid() {
		x.Referrer = s.Referrer.String()
	}
	var e *krpc.Error
	switch {
	case s.Kind == router.StepAnswered && s.Found:
		x.Outcome, x.Good, x.Found = fmt.Sprintf("has it, answered in %.1f ms", s.RTT.Seconds()*1000), true, true
	case s.Kind == router.StepAnswered:
		x.Outcome, x.Good = fmt.Sprintf("names %s, answered in %.1f ms", plural(s.Named, "other"), s.RTT.Seconds()*1000), true
	case s.Kind == router.StepSlow:
		x.Outcome = fmt.Sprintf("no answer yet after %.0f ms, others are asked meanwhile", s.RTT.Seconds()*1000)
	case errors.As(s.Err, &e):
		x.Outcome = fmt.Sprintf("answered with error %d (%q)", e.Code, e.Text)
	case errors.Is(s.Err, router.ErrTimeout):
		x.Outcome = fmt.Sprintf("silent for %.1f s", s.RTT.Seconds())
	default:
		x.Outcome = s.Err.Error()
	}
	return x
}

// run carries the lookup out.
func (t *tools) run(ctx context.Context, q query, what string, steps router.Option) (end tail) {
	var stats router.LookupStats
	var err error
	switch what {
	case "peers":
		var res *router.PeersResult
		if res, err = t.node.Peers(ctx, q.target, steps, router.WithScrape()); res != nil {
			stats = res.Stats
			end.Verdict = fmt.Sprintf("Found %s.", plural(len(res.Peers), "peer"))
			end.Good = len(res.Peers) > 0
			for _, p := range res.Peers[:min(len(res.Peers), maxListed)] {
				end.Peers = append(end.Peers, p.String())
			}
			end.More = max(len(res.Peers)-maxListed, 0)
			if res.Counted > 0 {
				end.fact("Counted by nodes (BEP 33)", "about %.0f seeds, %.0f downloaders", res.Seeds, res.Downloaders)
			}
			end.nodes(q.target, res.Nodes)
		}
	case "nodes":
		var res *router.NodesResult
		if res, err = t.node.FindNode(ctx, q.target, steps); res != nil {
			stats = res.Stats
			end.Verdict, end.Good = fmt.Sprintf("Closest of those that answer: %s.", plural(len(res.Nodes), "node")), len(res.Nodes) > 0
			end.nodes(q.target, res.Nodes)
		}
	default:
		var res *router.ItemResult
		if q.mutable {
			res, err = t.node.GetMutable(ctx, q.key, q.salt, steps)
		} else {
			res, err = t.node.GetImmutable(ctx, q.target, steps)
		}
		if res != nil {
			stats = res.Stats
		}
		if err == nil {
			end.item(res)
		}
	}
	switch {
	case errors.Is(err, router.ErrNotFound):
		end.Verdict = "Not found: no node that should have it has it."
	case errors.Is(err, router.ErrNoNodes):
		end.Verdict = "No node answered, so nothing is known."
	case errors.Is(err, context.DeadlineExceeded):
		end.Verdict = fmt.Sprintf("Not finished within %v.", patience)
	case err != nil:
		end.Verdict = "The lookup ended: " + err.Error() + "."
	}
	if stats.Queried > 0 {
		end.fact("Cost", "asked %d, answered %d, failed %d, hops %d, %.0f ms", stats.Queried, stats.Answered, stats.Failed, stats.Hops, stats.Duration.Seconds()*1000)
	}
	return end
}

func (e *tail) fact(name, format string, args ...any) {
	e.Facts = append(e.Facts, [2]string{name, fmt.Sprintf(format, args...)})
}

// way draws how the lookup went, to the first node that had what was looked for, else to the nearest that answered.
func (e *tail) way(rows []row) {
	goal := row{Bits: -1}
	for _, r := range rows {
		if r.Good && (r.Found && !goal.Found || r.Found == goal.Found && r.Bits > goal.Bits) {
			goal = r
		}
	}
	if goal.Addr == "" {
		return // nobody answered
	}
	e.Goal = "the nearest that answered"
	if goal.Found {
		e.Goal = "one that has it"
	}
	e.Picture = way(rows, goal.Addr)
}

// nodes lists the closest nodes.
func (e *tail) nodes(target krpc.ID, nodes []router.Contact) {
	for _, n := range nodes {
		e.Nodes = append(e.Nodes, row{Addr: n.Addr.String(), ID: n.ID.String(), Bits: router.PrefixLen(target, n.ID)})
	}
}

// item shows an item.
func (e *tail) item(res *router.ItemResult) {
	it := &res.Item
	e.Good = true
	switch {
	case res.Local && res.Stats.Queried == 0:
		e.Verdict = "It is stored here, so nobody was asked."
	case it.Mutable:
		e.Verdict = fmt.Sprintf("Found, the newest version at %s.", plural(res.Copies, "node"))
	default:
		e.Verdict = "Found."
	}
	if it.Mutable {
		e.fact("Sequence number", "%d", it.Seq)
		e.fact("Public key", "%x", it.K)
		if len(it.Salt) > 0 {
			e.fact("Salt", "%q", it.Salt)
		}
		e.fact("Signature", "%x, valid", it.Sig)
	}
	e.fact("Size", "%d bytes bencoded", len(it.V))
	e.Value = readable(it.V)
}

// readable shows bytes: as they are if people can read them, else as hexadecimal digits.
func readable(b []byte) string {
	if utf8.Valid(b) {
		plain := true
		for _, r := range string(b) {
			plain = plain && (!unicode.IsControl(r) || r == '\n' || r == '\t')
		}
		if plain {
			return string(b)
		}
	}
	return hex.EncodeToString(b)
}
