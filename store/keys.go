package store

import (
	"iter"
	"math/rand/v2"
)

// Holds reports whether a key has an item, or peers of either address family: whether
// Item or Peers would return any. It does not touch the file.
func (s *Store) Holds(key [20]byte) bool {
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.index.items[key] > now {
		return true
	}
	w := s.index.swarms[key]
	return w != nil && w.expires > now
}

// Keys returns the keys that Holds reports true for at the time of the call.
func (s *Store) Keys() iter.Seq[[20]byte] {
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]Key, 0, len(s.index.items)+len(s.index.swarms))
	for k, expires := range s.index.items {
		if expires > now {
			keys = append(keys, k)
		}
	}
	for k, w := range s.index.swarms {
		if w.expires > now && s.index.items[k] <= now {
			keys = append(keys, k)
		}
	}
	return func(yield func([20]byte) bool) {
		for _, k := range keys {
			if !yield(k) {
				return
			}
		}
	}
}

// MaxKeys returns how many keys the quotas let Keys list, beside those of own items, which
// have no quota; negative if there is no bound.
func (s *Store) MaxKeys() int64 { return s.opt.maxKeys() }

// Sample returns up to max infohashes that have peers, chosen at random, and how many
// there are in all (BEP 51 samples and num). Each call chooses anew.
func (s *Store) Sample(max int) (samples [][20]byte, total int) {
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, w := range s.index.swarms {
		if w.expires <= now {
			continue
		}
		total++
		if len(samples) < max {
			samples = append(samples, k)
		} else if j := rand.IntN(total); j < max { // reservoir sampling
			samples[j] = k
		}
	}
	return samples, total
}
