package appliance

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"kdht/appliance/health"
	"kdht/appliance/journal"
	"kdht/appliance/status"
	"kdht/config"
	"kdht/router"
	"kdht/store"
)

// Extension adds something to a node that is about to run, such as discovery on the LAN or the update interface of the
// appliance. It is called once, after the store, the sockets and the node were opened and before anything runs; it
// must not wait. An error keeps the node from starting.
type Extension func(*Host) error

// Host is a node as its extensions see it.
type Host struct {
	Config config.Config
	Log    *slog.Logger
	// Journal has the last lines of Log.
	Journal *journal.Journal
	Node    *router.Node
	Store   *store.Store
	// Report describes the present state, as the status page shows it. Not before the extension has returned.
	Report func() status.Report

	tasks    []Task
	handlers map[string]http.Handler
	special  []special
	anyName  []func(*http.Request) bool
	problems []func() []string
	sections []func() status.Section
	checks   []func() health.Check
	amends   []func(*status.Report)
	web      http.Handler
	webAlso  []string
	dialers  []Dialer
	owners   []Admission
	stop     func()

	mu      sync.Mutex
	last    func() // after everything else
	restart bool   // that was asked for
	asked   bool   // to end, by Stop or Restart
}

// Task adds a task. It starts after the node and the status page and stops before them, and is started again whenever it
// fails: the node serves without it.
func (h *Host) Task(t Task) { h.tasks = append(h.tasks, Restarting(t, h.Log)) }

// Handle adds a handler to the server of the status page, under a pattern of [http.ServeMux]. Its requests must be read
// within 10 s and answered within 30 s, unless it sets other deadlines through [http.ResponseController]. Whoever
// reaches the page reaches it: what changes anything must ask for credentials by itself. While the configuration has the
// status page off, only who serves [Host.Web] elsewhere serves it.
func (h *Host) Handle(pattern string, handler http.Handler) {
	if h.handlers == nil {
		h.handlers = make(map[string]http.Handler)
	}
	h.handlers[pattern] = handler
}

// HandleIf adds a handler for the requests that match picks, which no pattern can tell from those of the page. Otherwise
// it is as with Handle; patterns of Handle come first.
func (h *Host) HandleIf(match func(*http.Request) bool, handler http.Handler) {
	h.special = append(h.special, special{match, handler})
}

// UnderAnyName has browsers answered whatever name of the box they ask for, if match picks the request: only what the page that sends it may read
// and do as well when it asks for the box by its own name. See [OurName].
func (h *Host) UnderAnyName(match func(*http.Request) bool) { h.anyName = append(h.anyName, match) }

// underAnyName reports whether a browser is answered under whatever name.
func (h *Host) underAnyName(r *http.Request) bool {
	return slices.ContainsFunc(h.anyName, func(match func(*http.Request) bool) bool { return match(r) })
}

// special is a handler for some requests.
type special struct {
	match   func(*http.Request) bool
	handler http.Handler
}

// Problems adds to what the owner should know: f gives one sentence for each, of the present moment, and is called for
// every report by any goroutine.
func (h *Host) Problems(f func() []string) { h.problems = append(h.problems, f) }

// Section adds a section to the status page and its JSON twin. f is called for every report by any goroutine.
func (h *Host) Section(f func() status.Section) { h.sections = append(h.sections, f) }

// Check adds to the health of the node: f gives the state of something, and is called for every report by any goroutine. What it
// depends on must have been added before it. It does not keep the node from being ready.
func (h *Host) Check(f func() health.Check) { h.checks = append(h.checks, f) }

// Amend adds to what the report says. f is called for every report by any goroutine.
func (h *Host) Amend(f func(*status.Report)) { h.amends = append(h.amends, f) }

// Stop ends the node as if the process had been told to, and then, with the store closed, calls last. It does not wait for
// that. Of several calls each one's is called, in their order.
func (h *Host) Stop(last func()) {
	h.mu.Lock()
	h.asked = true
	if before := h.last; before == nil {
		h.last = last
	} else if last != nil {
		h.last = func() { before(); last() }
	}
	h.mu.Unlock()
	h.stop()
}

// ErrRestart is the error of [Serve] after [Host.Restart], with those of the stop.
var ErrRestart = errors.New("a restart was asked for")

// Restart is Stop for a program that is to be started again; last may be nil.
func (h *Host) Restart(last func()) {
	h.mu.Lock()
	h.restart = true
	h.mu.Unlock()
	h.Stop(last)
}

// Asked reports whether the node ends by [Host.Stop] or [Host.Restart], as somebody wished or an update takes, and not, as far as is known here,
// by whoever runs the process.
func (h *Host) Asked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// Admission finds out whether a request is from somebody who has shown that the box is his, as by a password, and his name for the log.
// Of one that has tried and failed, or should try, it says so itself; then it has answered.
type Admission func(http.ResponseWriter, *http.Request) (who string, ok, answered bool)

// AdmitBy adds a way to show that the box is one's own.
func (h *Host) AdmitBy(a Admission) { h.owners = append(h.owners, a) }

// Admit is an [Admission] by any of the ways that extensions have added.
func (h *Host) Admit(w http.ResponseWriter, r *http.Request) (who string, ok, answered bool) {
	for _, a := range h.owners {
		if who, ok, answered = a(w, r); ok || answered {
			break
		}
	}
	return who, ok, answered
}

// Web serves the status page and what extensions have added to it, whether or not the configuration has it served at an
// address of the machine. Not before the extension has returned.
func (h *Host) Web() http.Handler { return h.web }

// WebAlsoAt has Web served at another TCP address of the machine as well, ADDR:PORT or :PORT, while no other program has that. As that of the
// configuration it answers browsers under the box's own names only.
func (h *Host) WebAlsoAt(addr string) { h.webAlso = append(h.webAlso, addr) }

// finish calls what Stop was given, and says how Serve ends.
func (h *Host) finish(err error) error {
	h.mu.Lock()
	last, restart := h.last, h.restart
	h.mu.Unlock()
	if last != nil {
		last()
	}
	if restart {
		return errors.Join(ErrRestart, err)
	}
	return err
}

// extend calls the extensions.
func (p *process) extend(extensions []Extension) error {
	p.host.Config, p.host.Log, p.host.Journal, p.host.Node, p.host.Store = p.cfg, p.log, p.journal, p.node, p.store
	p.host.Report = p.report
	for _, e := range extensions {
		if err := e(&p.host); err != nil {
			return err
		}
	}
	return nil
}

// handler serves the status page and what extensions have added. Two of them with one pattern is a fault of the program.
func (p *process) handler() (h http.Handler, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("status page: %v", r)
		}
	}()
	mux := http.NewServeMux()
	page := status.Handler(p.report, p.past, p.log)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, s := range p.host.special {
			if s.match(r) {
				s.handler.ServeHTTP(w, r)
				return
			}
		}
		page.ServeHTTP(w, r)
	})
	for pattern, h := range p.host.handlers {
		mux.Handle(pattern, h)
	}
	return mux, nil
}
