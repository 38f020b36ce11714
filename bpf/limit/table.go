package limit

import (
	"encoding/binary"
	"net/netip"
)

// Shape of a table, as in xdp/maps.h and xdp/limit.h.
const (
	Sets = 1 << 11
	Ways = 8

	timeBits = 40
	timeMask = 1<<timeBits - 1
	flag     = 1 << timeBits
	tagMask  = 1<<64 - 1<<(timeBits+1)
	skew     = 1 << 20
)

// Set is one set of a table. A word holds, from the top, 23 bits of a source's [Hash], a flag, and a time in ticks.
type Set [Ways]uint64

// Table remembers something of some sources.
type Table [Sets]Set

// Hash stands for a source: an IPv4 address, or an IPv6 /64, under a key.
type Hash uint64

// HashOf returns the hash of an address's source.
func HashOf(seed uint64, a netip.Addr) Hash {
	b := a.Unmap().As16()
	key := binary.LittleEndian.Uint64(b[:8])
	if a.Unmap().Is4() {
		key = binary.LittleEndian.Uint64(b[8:])
	}
	return Hash(hashWords(seed, key, 0))
}

// hashWords is a hash of two words under a key, whose upper half is good.
func hashWords(seed, first, second uint64) uint64 {
	h := (first ^ seed) * 0x9e3779b97f4a7c15
	return (h ^ h>>32 ^ second) * 0xd6e8feb86659fd93
}

// Set is the number of the source's set.
func (h Hash) Set() uint32 { return uint32(h>>30) % Sets }

func (h Hash) way() int                 { return int(h>>27) % Ways }
func (h Hash) tag() uint64              { return uint64(h) & tagMask }
func (h Hash) differs(word uint64) bool { return (word^uint64(h))&tagMask != 0 }

// ticks is the time as words have it.
func (t Time) ticks() uint64 { return uint64(t) >> tickShift & timeMask }

// aheadOf is how far the time of a word is ahead of now. What is more than most is past: it cannot be meant.
func aheadOf(word, now, most uint64) uint64 {
	if ahead := (word - now) & timeMask; ahead <= most {
		return ahead
	}
	return 0
}

// find returns the place of a source: its own, else the one whose time is the least.
func (s *Set) find(h Hash, now, most uint64) *uint64 {
	best := h.way()
	if !h.differs(s[best]) {
		return &s[best]
	}
	least := aheadOf(s[best], now, most)
	for i, word := range s {
		if !h.differs(word) {
			return &s[i]
		}
		if ahead := aheadOf(word, now, most); ahead < least {
			best, least = i, ahead
		}
	}
	return &s[best]
}

// look returns the place of a source, how far it is ahead of its interval, and whether it is known to be exempt.
func (s *Set) look(p Params, h Hash, now uint64) (way *uint64, ahead uint64, exempt bool) {
	most := p.Window + skew
	way = s.find(h, now, most)
	word := *way
	if h.differs(word) {
		word = now
	}
	ahead = aheadOf(word, now, most)
	return way, ahead, word&flag != 0 && ahead > 0
}

// Take takes a token of a source in its set. It reports whether there was one, or the source is known or found to be exempt.
func (s *Set) Take(p Params, h Hash, t Time, isExempt func() bool) (ok, exempt bool) {
	if p.Interval == 0 {
		return true, false
	}
	return s.charge(p, h, p.Interval, t, isExempt)
}

// charge takes so many ticks of a source.
func (s *Set) charge(p Params, h Hash, cost uint64, t Time, isExempt func() bool) (ok, exempt bool) {
	now := t.ticks()
	way, ahead, exempt := s.look(p, h, now)
	if exempt {
		return true, true
	}
	ahead += cost
	if ahead <= p.Window {
		*way = h.tag() | (now+ahead)&timeMask
		return true, false
	}
	if !isExempt() {
		return false, false
	}
	*way = h.tag() | flag | (now+p.Window)&timeMask
	return true, true
}

// FreeGrowth is by how many bytes a reply may be longer than its query for one token of its source.
const FreeGrowth = 256

// Charge takes more tokens of a source that proved its address for a reply that is by so many bytes longer than its query. It
// reports whether there were as many, or the source is known or found to be exempt.
func (s *Set) Charge(p Params, h Hash, by int, t Time, isExempt func() bool) bool {
	if p.Interval == 0 || by <= FreeGrowth {
		return true
	}
	ok, _ := s.charge(p, h, p.Interval*uint64(by-FreeGrowth)/FreeGrowth, t, isExempt)
	return ok
}

// proofTime is how long a proof is good, in ticks: 30 min.
const proofTime = 1800 * 1e9 >> tickShift

// askedTime is how long the reply to a query of ours may take, in ticks.
const askedTime = 10 * 1e9 >> tickShift

// Known reports whether a source in its set has proved its address or, if that will do, was asked by us lately.
func (s *Set) Known(h Hash, t Time, askedWillDo bool) bool {
	word := *s.find(h, t.ticks(), proofTime+skew)
	return !h.differs(word) && aheadOf(word, t.ticks(), proofTime+skew) > 0 && (askedWillDo || word&flag == 0)
}

// Prove remembers that a source has proved its address. It reports whether that was news or is to be written: a proof
// that has most of its time before it stays as it is.
func (s *Set) Prove(h Hash, t Time) bool {
	now := t.ticks()
	way := s.find(h, now, proofTime+skew)
	if !h.differs(*way) && *way&flag == 0 && aheadOf(*way, now, proofTime+skew) > proofTime/2 {
		return false
	}
	*way = h.tag() | (now+proofTime)&timeMask
	return true
}

// Expect remembers that a query of ours was sent to a source, unless it has proved its address. It reports whether
// there is something to be written.
func (s *Set) Expect(h Hash, t Time) bool {
	now := t.ticks()
	way := s.find(h, now, proofTime+skew)
	if !h.differs(*way) && aheadOf(*way, now, proofTime+skew) > askedTime {
		return false
	}
	*way = h.tag() | flag | (now+askedTime)&timeMask
	return true
}
