package bundle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"kdht/appliance"
	"kdht/appliance/gateway"
	"kdht/store"
)

// writeTime is what a client has to take a bundle.
const writeTime = 2 * time.Minute

// Options say who may have a bundle, and what must not be in it.
type Options struct {
	// May lets others have it than those who may write through the gateway, programs on the machine and holders of a token, and those
	// whom [appliance.Host.Admit] knows.
	May []func(*http.Request) bool
	// SecretFiles are files with secrets, beside those that the configuration names; those without a directory are in the
	// directory of the state.
	SecretFiles []string
}

// Extension adds bundles to a node, at /bundle beside the status page.
func Extension(o Options) appliance.Extension {
	return func(h *appliance.Host) error {
		owner := gateway.Owner(h, o.May...)
		one := make(chan struct{}, 1)
		h.Handle("GET /bundle", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header := w.Header()
			header.Set("X-Content-Type-Options", "nosniff")
			header.Set("Cache-Control", "no-store")
			who, ok, answered := owner(w, r)
			if !ok && !answered {
				http.Error(w, refusal, http.StatusForbidden)
			}
			if !ok || !appliance.Wanted(w, r) { // asked after the password, since the answer is good for who has shown it
				return
			}
			select {
			case one <- struct{}{}:
				defer func() { <-one }()
			default:
				header.Set("Retry-After", "10")
				http.Error(w, "Somebody else is getting one just now. Try again in a moment.", http.StatusConflict)
				return
			}
			o.serve(w, r, h, who)
		}))
		return nil
	}
}

const refusal = "A support bundle has the log, and addresses of clients and other nodes. The box gives it to programs on the machine itself, to holders of a token " +
	`(gateway.tokens in its configuration; "Authorization: Bearer SECRET", or kdht bundle --token-file), on the appliance to whoever knows its password ` +
	"(that in gokr-pw.txt on the boot partition, user gokrazy; kdht bundle --password-file), " +
	"and in its tailnet to whoever may look at its page there."

// serve sends a bundle.
func (o Options) serve(w http.ResponseWriter, r *http.Request, h *appliance.Host, who string) {
	appliance.KeepConnection(r.Context())
	now := time.Now().UTC()
	name := "kdht-" + word(h.Report().Host.Name) + "-" + now.Format("20060102-150405")
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.tar.gz"`)
	if r.Method == http.MethodHead {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(now.Add(writeTime)) // elsewhere than at a connection there is none
	h.Log.Info("a support bundle is sent", "to", r.RemoteAddr, "who", who)
	var files []string
	for _, f := range append([]string{gateway.BoxKeyFile}, o.SecretFiles...) {
		if filepath.Base(f) == f {
			f = filepath.Join(h.Config.State, f)
		}
		files = append(files, f)
	}
	if err := Write(r.Context(), w, name, now, SecretsOf(h.Config, files...), Parts(h)); err != nil {
		h.Log.Debug("a support bundle was not sent", "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// word makes a part of a file's name.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, s)
	if s == "" {
		return "node"
	}
	return s
}

// Parts are what a bundle of a node has, the most important first.
func Parts(h *appliance.Host) []Part {
	parts := []Part{
		{"README.txt", func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, readme)
			return err
		}},
		page(h, "health.txt", "/readyz", "text/plain"),
		{"report.json", func(_ context.Context, w io.Writer) error { return writeJSON(w, h.Report()) }},
		{"log.txt", func(_ context.Context, w io.Writer) error {
			for _, l := range h.Journal.Lines(1<<30, slog.LevelDebug) {
				if _, err := fmt.Fprintln(w, l.Public()); err != nil {
					return err
				}
			}
			return nil
		}},
		page(h, "metrics.txt", "/metrics", "text/plain"),
		page(h, "history.json", "/history", "application/json"),
		{"config.hujson", func(_ context.Context, w io.Writer) error {
			_, err := w.Write(h.Config.Redacted(nil))
			return err
		}},
		{"updates.json", func(_ context.Context, w io.Writer) error {
			all, err := h.Store.Updates()
			if err != nil {
				return err
			}
			return writeJSON(w, orEmpty(all))
		}},
		{"audit.json", func(_ context.Context, w io.Writer) error {
			all, err := h.Store.Audit(store.MaxAudit)
			if err != nil {
				return err
			}
			return writeJSON(w, orEmpty(all))
		}},
	}
	return append(parts, machine()...)
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// page is a part that the server of the status page has.
func page(h *appliance.Host, name, path, accept string) Part {
	return Part{name, func(ctx context.Context, w io.Writer) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Accept", accept)
		answer := &answer{header: make(http.Header), w: w, code: http.StatusOK}
		h.Web().ServeHTTP(answer, r)
		if answer.code != http.StatusOK && answer.code != http.StatusServiceUnavailable {
			return fmt.Errorf("%s: %d %s", path, answer.code, http.StatusText(answer.code))
		}
		return answer.err
	}}
}

// answer writes the body of an answer somewhere.
type answer struct {
	header http.Header
	w      io.Writer
	code   int
	err    error
}

func (a *answer) Header() http.Header  { return a.header }
func (a *answer) WriteHeader(code int) { a.code = code }

func (a *answer) Write(b []byte) (int, error) {
	n, err := a.w.Write(b)
	if err != nil {
		a.err = err
	}
	return n, err
}

const readme = `A support bundle of kdht: what a node knew of itself at one moment.

health.txt       how it is, and what is to blame
report.json      everything that the status page shows
log.txt          the last lines of the log, those of INFO and above also if log.level is higher
metrics.txt      as Prometheus gets them
history.json     rates of the last minutes and the last day
config.hujson    the configuration, without secrets
updates.json     the history of updates
audit.json       who changed or wrote what
goroutines.txt   what the program does at the moment
build.txt        what it was built from
interfaces.json, routes.txt, network.txt, kernel.txt, dmesg.txt, system.txt, process.txt   the machine
errors.txt       what could not be gathered

Secrets were removed: tokens, keys and passwords that the node knows. Addresses of the node, of its clients and of other nodes are in it.
`
