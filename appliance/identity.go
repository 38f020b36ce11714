package appliance

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"net/netip"

	"kdht/config"
	"kdht/router/krpc"
	"kdht/store"
)

// seedIdentity puts the node IDs that the seed of the configuration makes into the store, if there is a seed. In the
// public network they depend on the external addresses too, as far as these are known by now (BEP 42).
func seedIdentity(s *store.Store, cfg config.Config) error {
	if cfg.NodeIDSeed == "" {
		return nil
	}
	for _, ipv6 := range []bool{false, true} {
		old, err := s.Identity(ipv6)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("node ID: %w", err)
		}
		external := old.External
		for _, a := range cfg.External {
			if a.Is6() == ipv6 {
				external = a
			}
		}
		id := store.Identity{ID: seededID(cfg.NodeIDSeed, ipv6, external, cfg.Network == config.Private), External: external}
		if err := s.SetIdentity(ipv6, id); err != nil {
			return fmt.Errorf("node ID: %w", err)
		}
	}
	return nil
}

// seededID derives a node ID from a seed.
func seededID(seed string, ipv6 bool, external netip.Addr, private bool) [20]byte {
	random := sha1.Sum(fmt.Appendf(nil, "kdht node ID\x00ipv6=%t\x00%s", ipv6, seed))
	if private || !external.IsValid() {
		return random
	}
	return krpc.NodeIDFor(external, random[len(random)-1], random)
}
