package status

import (
	_ "embed"
	"net/http"
)

// dashboard is a dashboard of Grafana for the metrics.
//
//go:embed grafana.json
var dashboard []byte

func serveDashboard(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `inline; filename="kdht-grafana.json"`)
	_, _ = w.Write(dashboard) // the client has gone
}
