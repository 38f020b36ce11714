package discover

import (
	"encoding/json"
	"net/http"
	"net/netip"

	"kdht/appliance"
	"kdht/appliance/status"
	"kdht/config"
)

// Path is where the server of the status page gives a [Report] as JSON.
const Path = "/discovery"

// Extend adds discovery to a node, if its configuration has it on: the task, a section of the status page, and Path.
func Extend(h *appliance.Host) error {
	cfg := h.Config
	if !cfg.Discover() {
		why := "off, as configured"
		if cfg.Discovery == config.DiscoveryAuto {
			why = "off, as this is no private network"
		}
		h.Section(func() status.Section {
			return status.Section{Title: sectionTitle, Facts: []status.Fact{{Name: "Discovery", Value: why}}}
		})
		return nil
	}
	var listen []netip.AddrPort
	for _, f := range h.Node.Stats().Families {
		listen = append(listen, f.Listen...)
	}
	t := New(Config{
		Private: cfg.Network == config.Private,
		Name:    cfg.NetworkName,
		Listen:  listen,
		Version: func() string { return h.Report().Version },
		Node:    h.Node,
		Log:     h.Log,
	})
	h.Task(t)
	h.Section(func() status.Section { return t.Report().section() })
	h.Handle("GET "+Path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(t.Report()) // who does not read it to its end has it so
	}))
	return nil
}
