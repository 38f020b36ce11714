package store

import (
	"math"
	"time"
)

// Times of expiry are whole seconds since 1970 in 32 bits (until 2106): they are
// kept in memory for every key. An entry is live while now < expires.

// never is the time of expiry of an own item.
const never = math.MaxUint32

// now is the current second.
func (s *Store) now() uint32 { return clamp(s.opt.Now().Unix()) }

// after is the first whole second that is at least ttl from now.
func (s *Store) after(ttl time.Duration) uint32 {
	t := s.opt.Now().Add(ttl)
	sec := t.Unix()
	if t.Nanosecond() > 0 {
		sec++
	}
	return clamp(sec)
}

func clamp(sec int64) uint32 { return uint32(min(max(sec, 0), never-1)) }

func timeOf(sec uint32) time.Time { return time.Unix(int64(sec), 0) }
