package admin

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

// profile serves profiles as net/http/pprof does, but the command line, which may have secrets in it. A profile that takes time
// and CPU is taken by one caller at a time.
func (g *gate) profile(w http.ResponseWriter, r *http.Request) {
	serve := http.HandlerFunc(pprof.Index)
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		fail(w, http.StatusForbidden, "The command line is not shown: it may have secrets in it.")
		return
	case "profile":
		serve = pprof.Profile
	case "trace":
		serve = pprof.Trace
	case "symbol":
		serve = pprof.Symbol
	}
	done, ok := g.one(w, "profile")
	if !ok {
		return
	}
	defer done()
	serve(w, r)
}
