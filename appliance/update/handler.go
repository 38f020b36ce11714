package update

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"kdht/appliance/update/manifest"
)

const (
	// stall is how long an upload may stand still.
	stall = time.Minute
	// arrival is how long the answer has to reach who asked for a restart. In a tailnet it is the program that sends it again when it is
	// lost, and not the kernel; without it, gok takes the update for failed.
	arrival = time.Second
)

// Handler serves the update interface. Paths, methods and answers are gokrazy's; /update/manifest, /update/status,
// /update/check, /update/apply and /update/rollback are ours.
func (m *Manager) Handler() http.Handler {
	mux := http.NewServeMux()
	gokrazy := m.proxy()
	mux.HandleFunc("/update/features", m.features(gokrazy))
	mux.HandleFunc("/update/root", m.upload(m.Root))
	mux.HandleFunc("/update/boot", m.upload(m.Boot))
	mux.HandleFunc("/update/bootonly", refuseAll("a boot file system is taken with a root file system only, because they are tried together: PUT /update/root and /update/boot"))
	mux.HandleFunc("/update/device-specific/", refuseAll("this box writes no boot loader to its disk, because no trial can test it"))
	mux.HandleFunc("/update/mbr", m.upload(func(r io.Reader, _ int64, by client) (sums, error) { return m.BootCode(r, by) }))
	mux.HandleFunc("/update/switch", m.action(m.Switch))
	mux.HandleFunc("/update/testboot", m.action(m.Switch))
	mux.HandleFunc("/update/rollback", m.action(m.Rollback))
	mux.HandleFunc("/update/manifest", m.putManifest)
	mux.HandleFunc("GET /update/status", m.getStatus)
	mux.HandleFunc("/update/check", m.postCheck)
	mux.HandleFunc("/update/apply", m.postApply)
	mux.HandleFunc("/reboot", m.depart(false, "Rebooting"))
	mux.HandleFunc("/poweroff", m.depart(true, "Powering off"))
	mux.HandleFunc("/uploadtemp/", m.unsigned(http.MethodPut, gokrazy))
	mux.HandleFunc("/divert", m.unsigned(http.MethodPost, gokrazy))
	return http.NewCrossOriginProtection().Handler(m.authenticated(mux))
}

// Patterns are what of the paths of the status page's server belongs to Handler.
var Patterns = []string{"/update/", "/reboot", "/poweroff", "/uploadtemp/", "/divert"}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) { http.Error(w, err.Error(), statusOf(err)) }

// method answers whoever uses another method as gokrazy does.
func method(w http.ResponseWriter, r *http.Request, want string) bool {
	if r.Method != want {
		http.Error(w, "expected a "+want+" request", http.StatusBadRequest)
		return false
	}
	return true
}

// upload answers an upload with its hash: CRC-32 if the client asks for that, else SHA-256.
func (m *Manager) upload(take func(r io.Reader, length int64, by client) (sums, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !method(w, r, http.MethodPut) {
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Time{}) // a server that cannot has none
		s, err := take(patient{r.Body, rc}, r.ContentLength, clientOf(r))
		if err != nil {
			m.failed(w, r, err)
			return
		}
		m.note(r, done)
		h := s.sha
		if r.Header.Get("X-Gokrazy-Update-Hash") == "crc32" {
			h = s.crc
		}
		_, _ = fmt.Fprintf(w, "%x", h.Sum(nil)) // a client that has gone will ask again
	}
}

// patient reads a body for as long as it takes, but not one that stands still.
type patient struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(stall))
	return p.r.Read(b)
}

// action is a POST without a body.
func (m *Manager) action(do func(by client) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !method(w, r, http.MethodPost) {
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(10 * time.Minute))
		if err := do(clientOf(r)); err != nil {
			m.failed(w, r, err)
			return
		}
		m.note(r, done)
	}
}

func refuseAll(sentence string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, sentence, http.StatusForbidden) }
}

// unsigned hands programs that somebody uploads on to gokrazy, unless only what is signed may run.
func (m *Manager) unsigned(verb string, next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !method(w, r, verb) { // else whatever a page has a browser GET would be in the audit log
			return
		}
		m.mu.Lock()
		tried := m.tried != nil
		m.mu.Unlock()
		switch {
		case tried: // what proves well must be what was uploaded
			m.failed(w, r, ErrTrial)
			return
		case m.key != nil:
			m.failed(w, r, ErrUnsigned)
			return
		}
		m.note(r, begun) // it may change anything from its first byte on
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Time{})
		r.Body = io.NopCloser(patient{r.Body, rc})
		next.ServeHTTP(w, r)
	}
}

// depart answers, and then stops the node and the machine.
func (m *Manager) depart(off bool, words string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !method(w, r, http.MethodPost) {
			return
		}
		if err := m.close(); err != nil {
			m.failed(w, r, err)
			return
		}
		m.note(r, done)
		_, _ = fmt.Fprintf(w, "%s...\n", words)
		_ = http.NewResponseController(w).Flush()
		by := who(r)
		time.AfterFunc(arrival, func() { m.Depart(off, by) }) // the server waits for this request before it stops
	}
}

func (m *Manager) putManifest(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodPut) {
		return
	}
	doc, err := io.ReadAll(io.LimitReader(r.Body, manifest.MaxSize+1))
	if err != nil {
		m.failed(w, r, fmt.Errorf("%w: %w", ErrTruncated, err))
		return
	}
	if err := m.Announce(doc, r.URL.Query().Get("downgrade"), clientOf(r)); err != nil {
		m.failed(w, r, err)
		return
	}
	m.note(r, done)
}

func (m *Manager) getStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(m.Status()); err != nil {
		m.o.Log.Debug("status of updates not sent", "err", err)
	}
}
