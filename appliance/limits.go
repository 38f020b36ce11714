package appliance

import (
	"crypto/rand"

	"kdht/bpf/limit"
	"kdht/config"
)

// limits returns what either half of the node allows others. Each has half of the budgets for replies that are longer
// than their queries and for queries that are sent for clients, unless there is no kernel half.
func limits(cfg config.Config) (kernel, user limit.Config) {
	l := cfg.Limits
	kernel = limit.Config{
		Rate: l.PerSource, Burst: l.Burst, Growth: l.UnprovenBytes, Unproven: l.UnprovenDatagrams, Queries: cfg.RecursionQueries(), Exempt: l.Exempt,
	}
	_, _ = rand.Read(kernel.Secret[:]) // never fails
	if cfg.XDP.Mode != config.XDPOff {
		kernel.Queries = max(1, kernel.Queries/2)
		if l.UnprovenBytes > 0 {
			kernel.Growth = max(1, l.UnprovenBytes/2)
		}
	}
	return kernel, kernel
}
