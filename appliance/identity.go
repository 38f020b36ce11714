package appliance

import (
	"crypto/sha1"
	"fmt"
	"net/netip"

	"kdht/config"
	"kdht/router"
	"kdht/router/krpc"
)

// seededID returns what derives node IDs from the seed of the configuration; nil if there is no seed. In the public
// network an ID depends on the external address too (BEP 42).
func seededID(cfg config.Config) func(router.Family, netip.Addr) router.ID {
	if cfg.NodeIDSeed == "" {
		return nil
	}
	return func(f router.Family, external netip.Addr) router.ID {
		random := sha1.Sum(fmt.Appendf(nil, "kdht node ID\x00ipv6=%t\x00%s", f == router.IPv6, cfg.NodeIDSeed))
		if !external.IsValid() {
			return random
		}
		return krpc.NodeIDFor(external, random[len(random)-1], random)
	}
}
