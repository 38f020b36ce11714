package status

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kdht/appliance/health"
	"kdht/appliance/history"
)

// Handler serves the report:
//
//	/, /status   the page or JSON: what the query says (format=json or format=html), else what Accept prefers, else
//	             the page at / and JSON at /status
//	/live        the parts of the page that change, as server-sent events, for the page's own script
//	/assets/     what the pages load: a style sheet, a script, an icon
//	/history     JSON: rates and levels of the last minutes and of the last day, see package history
//	/schema/     JSON Schema of /status and /history: status.json, history.json
//	/metrics     Prometheus text format
//	/grafana.json  a dashboard for these metrics, to be imported into Grafana
//	/healthz     200 while every task of the process runs, else 503 and what does not
//	/readyz      200 while the DHT answers and is answered, else 503
//
// Both go on with the health of the node, a line for each part of it; as JSON, which Accept must prefer, they are that alone.
//
// report is called once for each request, by any goroutine.
func Handler(report func() Report, past *history.Recorder, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	x := newRenderer(report, past, log)
	mux.HandleFunc("GET /{$}", x.page)
	mux.HandleFunc("GET /status", x.page)
	mux.HandleFunc("GET /live", x.live)
	mux.HandleFunc("GET /assets/", serveAsset)
	mux.HandleFunc("GET /schema/status.json", serveSchema("status.json"))
	mux.HandleFunc("GET /schema/history.json", serveSchema("history.json"))
	mux.HandleFunc("GET /history", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(past.History()); err != nil {
			log.Debug("history not sent", "err", err)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry(report), promhttp.HandlerOpts{
		ErrorLog:            promLog{log},
		MaxRequestsInFlight: 4,
		DisableCompression:  true, // a few KiB; the compressors are not worth their memory
	}))
	mux.HandleFunc("GET /grafana.json", serveDashboard)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		r := report()
		lines := r.Unhealthy()
		serveHealth(w, req, r.Health, len(lines) == 0, "ok", lines)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) {
		r := report()
		serveHealth(w, req, r.Health, r.Ready, "ready", []string{"not ready"})
	})
	return Secure(mux)
}

// Unhealthy returns the tasks that ought to run and do not, and why; none means that the process is well.
func (r Report) Unhealthy() (lines []string) {
	for _, t := range r.Tasks {
		if !t.Running {
			lines = append(lines, t.Name+": "+t.Error)
		}
	}
	return lines
}

// Secure sets the headers of every response of the page. Nothing here is to be framed, sniffed or stored, but for what says so;
// pages load files of their own and nothing else, run no script that stands in them, and their forms lead nowhere else.
func Secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // which shows that a request is from a page of ours
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// page serves the report, as a page or as JSON.
func (x *renderer) page(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Vary", "Accept")
	var err error
	if wantsJSON(r) {
		h.Set("Content-Type", "application/json") // exactly that is what gok understands
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		report := x.report()
		report.fill()
		err = e.Encode(report)
	} else {
		h.Set("Content-Type", "text/html; charset=utf-8")
		err = pages.ExecuteTemplate(w, "page", x.view())
	}
	if err != nil { // the client has gone, or the template is wrong
		x.log.Debug("status page not sent", "err", err)
	}
}

// serveHealth answers a health check.
func serveHealth(w http.ResponseWriter, r *http.Request, tree health.Tree, ok bool, good string, bad []string) {
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	h := w.Header()
	h.Set("Vary", "Accept")
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if Quality(accept, "application", "json") > Quality(accept, "text", "plain") {
		tree.Checks = orEmpty(tree.Checks)
		h.Set("Content-Type", "application/json")
		w.WriteHeader(code)
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(tree) // the client has gone
		return
	}
	lines := []string{good}
	if !ok {
		lines = bad
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n\n"+tree.Text()) // the client has gone
}

// promLog writes what promhttp has to say to the log.
type promLog struct{ log *slog.Logger }

func (l promLog) Println(v ...any) { l.log.Warn("metrics not served", "err", v) }
