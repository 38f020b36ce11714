package router

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"
)

const (
	// sightingInterval is how often one sender is looked at again; the kernel half does the same.
	sightingInterval = 5 * time.Minute
	recentSlots      = 4096 // a power of two

	// Of senders who never proved their address few are looked at in a round, because they may be forged in any number, and those soon
	// again: that what is forged gets attention meanwhile must not cost an honest one five minutes.
	unprovenInterval = 3 * time.Second
	unprovenPerRound = 2
	senderRound      = 1 << 25 // ns
)

// recentSenders remembers the senders of queries, so that the routing table hears of each only now and then. It may
// forget some early. Not safe for concurrent use.
type recentSenders struct {
	seed  [2]uint64
	epoch time.Time // long enough ago; the wall clock, which may be set back, plays no part
	slots [recentSlots]struct {
		sum uint64
		at  int64 // nanoseconds since epoch
	}
	round    int64
	unproven int // looked at in this round
}

func newRecentSenders() *recentSenders {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return &recentSenders{epoch: time.Now().Add(-sightingInterval), seed: [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:]) | 1}}
}

// add reports whether the table is to hear of a sender now, who was not seen within the interval, and then whether he is where he says,
// as known says.
func (r *recentSenders) add(a netip.AddrPort, id *ID, now time.Time, known func(netip.Addr, time.Time) bool) (proven, hear bool) {
	ip := a.Addr().As16()
	sum := r.seed[0]
	for _, w := range [...]uint64{
		binary.LittleEndian.Uint64(ip[:8]), binary.LittleEndian.Uint64(ip[8:]), uint64(a.Port()),
		binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:16]), uint64(binary.LittleEndian.Uint32(id[16:])),
	} {
		hi, lo := bits.Mul64(sum^w, r.seed[1])
		sum = hi ^ lo + 1
	}
	slot := &r.slots[sum%recentSlots]
	t := int64(now.Sub(r.epoch))
	if slot.sum == sum && t-slot.at < int64(sightingInterval) {
		return false, false
	}
	if proven = known(a.Addr(), now); !proven {
		if round := t / senderRound; round != r.round {
			r.round, r.unproven = round, 0
		}
		if r.unproven++; r.unproven > unprovenPerRound {
			return false, false
		}
		t -= int64(sightingInterval - unprovenInterval)
	}
	slot.sum, slot.at = sum, t
	return proven, true
}
