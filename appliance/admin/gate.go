package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/tailcfg"

	"kdht/appliance"
	"kdht/appliance/audit"
	"kdht/appliance/update"
	"kdht/store"
)

const (
	// readTime and writeTime are what a request that is not long has.
	readTime  = 15 * time.Second
	writeTime = 60 * time.Second
	// whoTime bounds how long it may take to find out who asks.
	whoTime = 5 * time.Second
	// quiet is how often the log says that a stranger asked.
	quiet = 10 * time.Second
)

// gate stands before everything that is served in the tailnet.
type gate struct {
	p      *plane
	table  []route
	origin *http.CrossOriginProtection
	busy   sync.Map      // paths that one caller at a time may ask for
	came   atomic.Uint32 // the [Role] of the operator who has asked since the start, of several of the one with more; 0 if none has

	mu       sync.Mutex
	follow   map[tailcfg.StableNodeID]int // how many follow the log, by node
	stranger time.Time                    // when the log had one last

	failures, reads *audit.Repeated
}

// maxFollowers is how many callers may follow the log at a time, and maxPerFollower how many of them from one node.
const (
	maxFollowers   = 16
	maxPerFollower = 4
)

func newGate(p *plane) *gate {
	g := &gate{p: p, origin: http.NewCrossOriginProtection(), follow: make(map[tailcfg.StableNodeID]int), failures: audit.Failures(p.h.Store, p.h.Log),
		reads: audit.Reads(p.h.Store, p.h.Log)}
	g.table = g.routes()
	return g
}

// whois asks the tailnet who has an address.
type whois func(ctx context.Context, remote string) (*apitype.WhoIsResponse, error)

// handler serves those who may.
func (g *gate) handler(who whois) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(readTime)) // in tests there is no connection
		_ = rc.SetWriteDeadline(time.Now().Add(writeTime))

		caller, ok := g.admit(w, r, who)
		if !ok {
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), identityKey{}, caller))
		for _, t := range g.table {
			if t.matches(r) {
				g.serve(w, r, t, caller)
				return
			}
		}
		notFound(w, r)
	})
}

// admit finds out who asks, and whether it is he who asks and not a page that his browser shows.
func (g *gate) admit(w http.ResponseWriter, r *http.Request, who whois) (Identity, bool) {
	if ok, why := g.p.now.serves(); !ok {
		if why == "" {
			why = "The admin plane is not ready yet. Try again in a moment."
		}
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusServiceUnavailable, why)
		return Identity{}, false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !g.p.now.ours(host) {
		fail(w, http.StatusMisdirectedRequest, "This box has another name: ask for it by its name in the tailnet, or by one of its addresses there.")
		return Identity{}, false
	}
	if err := g.foreign(r); err != nil {
		fail(w, http.StatusForbidden, "Another site may not ask in your name: "+err.Error()+".")
		return Identity{}, false
	}
	caller, err := g.identify(r.Context(), r.RemoteAddr, who)
	if err != nil {
		g.p.log.Warn("the admin plane does not know who asks", "from", r.RemoteAddr, "err", err)
		fail(w, http.StatusForbidden, "The tailnet does not say who you are.")
		return Identity{}, false
	}
	if caller.Roles == 0 {
		g.sayStranger(caller, r)
		fail(w, http.StatusForbidden, fmt.Sprintf("You are %s, and nobody here: the tailnet's policy grants you no role of %s, and no list of the box's configuration (tailnet.viewers, operators, updaters) has you.",
			caller.Name, Capability))
		return Identity{}, false
	}
	g.sawOperator(caller.Roles)
	return caller, true
}

// errNobody says that the tailnet knows nobody with an address.
var errNobody = errors.New("no node has the address")

// identify finds out whose an address is, and what he may.
func (g *gate) identify(ctx context.Context, remote string, who whois) (Identity, error) {
	timeout, cancel := context.WithTimeout(ctx, whoTime)
	defer cancel()
	x, err := who(timeout, remote)
	if err == nil && (x == nil || x.Node == nil) {
		err = errNobody
	}
	if err != nil {
		return Identity{}, err
	}
	caller := identityOf(x, rolesOf(x, g.p.h.Config.Tailnet))
	caller.still = func(ctx context.Context) Role {
		now, err := g.identify(ctx, remote, who)
		if err != nil || now.ID != caller.ID {
			return 0
		}
		return now.Roles
	}
	return caller, nil
}

// sawOperator takes down that somebody has come, if he may change the configuration.
func (g *gate) sawOperator(has Role) {
	if has&Operator == 0 {
		return
	}
	for was := g.came.Load(); ; was = g.came.Load() {
		if more := max(was, uint32(has&(Operator|Updater))); more == was || g.came.CompareAndSwap(was, more) {
			return
		}
	}
}

// foreign says why a request is not what its sender wants, but a page of another site that his browser shows.
func (g *gate) foreign(r *http.Request) error {
	if err := g.origin.Check(r); err != nil {
		return err
	}
	// Backups and profiles cost something even if the page does not get to see them. To follow a link is fine.
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "same-origin" && site != "none" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return errors.New("cross-origin request")
	}
	return nil
}

// sayStranger has the log say that somebody without a role asked, not more often than is of use.
func (g *gate) sayStranger(who Identity, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.stranger) >= quiet {
		g.stranger = now
		g.p.log.Warn("somebody without a role asked the admin plane", "who", who.Name, "method", r.Method, "path", r.URL.Path)
	}
}

// serve serves a request, if its caller may, and notes it.
func (g *gate) serve(w http.ResponseWriter, r *http.Request, t route, who Identity) {
	if !who.May(t.need) {
		if t.what != "" {
			g.seldom(g.failures, who, t.what, what(t, r), "refused")
		}
		fail(w, http.StatusForbidden, fmt.Sprintf("You are %s, with the roles %s; this takes %s.", who.Name, who.Roles, strings.Join(t.need.Names(), " or ")))
		return
	}
	if (t.what != "" || t.long) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && !appliance.Wanted(w, r) {
		return
	}
	if t.long {
		appliance.KeepConnection(r.Context()) // however many come meanwhile
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})
		_ = rc.SetWriteDeadline(time.Time{})
	}
	if t.what == "" {
		t.handle(w, r)
		return
	}
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	t.handle(rec, r)
	switch outcome := outcome(rec.status); {
	case rec.noted:
	case rec.status >= http.StatusBadRequest:
		g.seldom(g.failures, who, t.what+" "+outcome, what(t, r), outcome)
	case r.Method == http.MethodGet || r.Method == http.MethodHead || t.asks:
		g.seldom(g.reads, who, t.what, what(t, r), outcome)
	default:
		g.note(who, what(t, r), outcome)
	}
}

// seldom notes what somebody has read or tried in vain, of one thing once a day, whatever he is called by then.
func (g *gate) seldom(to *audit.Repeated, who Identity, key, what, outcome string) {
	if to.Note(who.ID+" "+key, entry(who, what, outcome)) {
		g.p.log.Info("admin", "who", who.Name, "what", what, "outcome", outcome)
	}
}

// noteForeign notes that somebody has logged the box in to where it does not belong. Whoever has done that may call himself and his tailnet
// as he likes, so of one user it is noted once a day.
func (g *gate) noteForeign(by Identity, tailnet string) {
	g.seldom(g.failures, by, "log in", "log the box in to the tailnet "+tailnet, "refused: it does not belong there")
}

// what names what somebody did.
func what(t route, r *http.Request) string {
	return t.what + ": " + r.Method + " " + r.URL.Path
}

func outcome(status int) string {
	switch {
	case status == http.StatusAccepted:
		return "begun"
	case status < 400:
		return "done"
	}
	return fmt.Sprintf("failed: %d %s", status, http.StatusText(status))
}

// note adds to the audit log.
func (g *gate) note(who Identity, what, outcome string) {
	g.p.log.Info("admin", "who", who.Name, "what", what, "outcome", outcome)
	if err := g.p.h.Store.AddAudit(entry(who, what, outcome)); err != nil {
		g.p.log.Error("the audit log cannot be written", "err", err)
	}
}

func entry(who Identity, what, outcome string) store.Audit {
	return store.Audit{Time: time.Now().UTC(), Who: who.Name, What: what, Outcome: outcome}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	noted  bool // in the audit log already
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// noted marks the answer's request as one whose entry is in the audit log.
func noted(w http.ResponseWriter) {
	if r, ok := w.(*recorder); ok {
		r.noted = true
	}
}

// caller is who sends a request that has come through the gate.
func caller(r *http.Request) Identity {
	who, _ := IdentityOf(r.Context())
	return who
}

// one lets one caller at a time do something; else it answers by itself.
func (g *gate) one(w http.ResponseWriter, what string) (done func(), ok bool) {
	if _, taken := g.busy.LoadOrStore(what, true); taken {
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusConflict, "Somebody else is doing that just now. Try again when it is done.")
		return nil, false
	}
	return func() { g.busy.Delete(what) }, true
}

// web hands a request on to the status page, with what extensions have added to it.
func (g *gate) web(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Cache-Control")
	g.p.h.Web().ServeHTTP(w, r)
}

// live hands a request on that follows the status page, for as long as its caller may look.
func (g *gate) live(w http.ResponseWriter, r *http.Request) {
	ctx, stop := whileMayLook(r)
	defer stop()
	g.web(w, r.WithContext(ctx))
}

// update hands a request on to the interface for updates, which asks for no password.
func (g *gate) update(w http.ResponseWriter, r *http.Request) {
	g.web(w, r.WithContext(update.WithAuthority(r.Context(), caller(r).Name)))
}

// whoami tells the caller who he is, and what there is for him.
func (g *gate) whoami(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	type path struct {
		Methods string `json:"methods"`
		Path    string `json:"path"`
	}
	out := struct {
		Name  string   `json:"name"`
		Roles []string `json:"roles"`
		Paths []path   `json:"paths"`
	}{Name: who.Name, Roles: who.Roles.Names()}
	for _, t := range g.table {
		if who.May(t.need) && t.methods != "" {
			out.Paths = append(out.Paths, path{t.methods, t.path})
		}
	}
	serveJSON(w, http.StatusOK, out)
}

// audit serves the audit log, the newest entries first: ?n=, at most all that are kept.
func (g *gate) audit(w http.ResponseWriter, r *http.Request) {
	n := 100
	if s := r.URL.Query().Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			fail(w, http.StatusBadRequest, "n is how many entries, at least 1.")
			return
		}
	}
	all, err := g.p.h.Store.Audit(min(n, store.MaxAudit))
	if err != nil {
		fail(w, http.StatusInternalServerError, "The audit log cannot be read: "+err.Error()+".")
		return
	}
	if all == nil {
		all = []store.Audit{}
	}
	serveJSON(w, http.StatusOK, all)
}

// fail answers with a sentence.
func fail(w http.ResponseWriter, status int, sentence string) { http.Error(w, sentence, status) }

func serveJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client may have gone
}
