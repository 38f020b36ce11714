package router

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// recentFor is how long an address that a ping was asked for is not pinged again on hearsay: whoever forges
// sightings of a victim must not make us pester it.
const recentFor = 5 * time.Minute

// recent remembers which addresses were added lately, in fixed space: of two addresses that fall on the same place,
// the later is remembered.
type recent struct {
	seed   maphash.Seed
	places []struct {
		sum uint64
		at  time.Duration // after epoch
	}
	epoch time.Time
}

func newRecent() recent {
	r := recent{seed: maphash.MakeSeed()}
	r.places = make([]struct {
		sum uint64
		at  time.Duration
	}, 4096)
	return r
}

// add remembers an address and reports whether it was not remembered yet.
func (r *recent) add(a netip.Addr, now time.Time) bool {
	if r.epoch.IsZero() {
		r.epoch = now.Add(-recentFor)
	}
	b := a.As16()
	sum, at := maphash.Bytes(r.seed, b[:]), now.Sub(r.epoch)
	p := &r.places[sum%uint64(len(r.places))]
	if p.sum == sum && at-p.at < recentFor {
		return false
	}
	p.sum, p.at = sum, at
	return true
}
