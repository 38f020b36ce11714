package admin

import (
	"time"

	"tailscale.com/tsnet"

	"kdht/appliance"
	"kdht/appliance/admin/change"
	"kdht/appliance/health"
	"kdht/appliance/status"
	"kdht/config"
)

// Options are what the program knows and the node does not.
type Options struct {
	// History is that of the configuration file; nil: there is no file, and nothing can be changed.
	History *change.History
	// Check reads the text of a configuration file as the program would at its start, with the flags on top. The error is of
	// type [config.Errors].
	Check func(text []byte) (config.Config, error)
	// Appliance says that the machine is ours to restart.
	Appliance bool

	// For tests: node is called with each node that has started in the tailnet, unless it is nil, and with loud such a node ends as it would
	// by itself.
	node func(*tsnet.Server)
	loud bool
}

// Extension adds the admin plane to a node, if the configuration wants it.
func Extension(o Options) appliance.Extension {
	return func(h *appliance.Host) error {
		p := newPlane(h, o)
		p.gate = newGate(p)
		if o.History != nil {
			if said := o.History.Said(); said != "" {
				h.Log.Error("configuration", "problem", said)
				h.Problems(func() []string { return []string{said} })
			}
			p.trial = newTrial(p)
			h.Task(p.trial)
		}
		if err := tidy(h.Config.State); err != nil {
			h.Log.Warn("what a restore has left cannot be removed", "err", err)
		}
		h.Task(newKeeper(h.Config.State, h.Log))
		if !wanted(h.Config.Tailnet, h.Config.State) {
			return nil
		}
		h.Amend(func(r *status.Report) { r.Tailnet = p.now.report() })
		h.Section(p.section)
		h.Problems(p.now.problems)
		h.Check(func() health.Check { return check(p.now.report(), time.Now()) })
		h.Handle("GET "+loginPath, p.loginPage())
		h.DialBy(p.dial)
		h.Task(p)
		return nil
	}
}
