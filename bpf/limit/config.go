package limit

import (
	"net/netip"
	"time"
)

// Config says what is allowed. The zero value sets no limits at all.
type Config struct {
	// Rate is how many datagrams a source may send per second in the long run, and Burst how many at once; zero: any
	// number.
	Rate  float64
	Burst int
	// Growth is by how many bytes per second all replies to unproven sources may exceed their queries; zero: by any
	// number.
	Growth int64
	// Unproven is how many datagrams per second from unproven sources the kernel half passes up; zero: any number.
	Unproven int
	// Queries is how many queries per second a half of the node sends for clients that ask for recursion, to all nodes
	// together; zero: any number.
	Queries int
	// Exempt are sources without limits, at most 1,024 prefixes. IPv4-mapped ones count as IPv4.
	Exempt []netip.Prefix
	// Secret makes cookies unpredictable. Both halves of a node must have the same.
	Secret [16]byte
}

// Time is CLOCK_MONOTONIC in nanoseconds.
type Time uint64

// A tick is the unit of time of tables.
const tickShift = 10

// Params are the numbers that a [Config] comes down to, as the kernel half wants them.
type Params struct {
	Interval     uint64 // between two datagrams of one source, in ticks of 1,024 ns; 0: no limit
	Window       uint64 // so far ahead of its interval a source may be, in ticks
	GrowthCost   uint64 // of a byte of growth, in 2^-10 ns; 0: no limit
	UnprovenCost uint64 // of a datagram passed up, in ns; 0: no limit
	QueryCost    uint64 // of a query for a client, in ns; 0: no limit
	QueryWindow  uint64 // so far ahead of its cost all queries may be, in ns
}

// maxWindow bounds Params.Window, about 18 min: a tenth of a thousandth of the time after which the clock of tables repeats.
const maxWindow = 1 << 30

const (
	// queryWindow is how much of the queries for clients may be sent at once, as in user space.
	queryWindow = uint64(250 * time.Millisecond)
	// recursionPaths is PATHS: half of the window has room for the first query on each.
	recursionPaths = 3
)

// Params returns the numbers.
func (c *Config) Params() (p Params) {
	if c.Rate > 0 {
		p.Interval = max(1, uint64(float64(time.Second)/c.Rate)>>tickShift)
		p.Window = min(p.Interval*uint64(max(c.Burst, 1)), maxWindow)
	}
	if c.Growth > 0 {
		p.GrowthCost = max(1, uint64(time.Second)<<10/uint64(c.Growth))
	}
	if c.Unproven > 0 {
		p.UnprovenCost = max(1, uint64(time.Second)/uint64(c.Unproven))
	}
	if c.Queries > 0 {
		p.QueryCost = max(1, uint64(time.Second)/uint64(c.Queries))
		p.QueryWindow = max(queryWindow, 2*recursionPaths*p.QueryCost)
	}
	return p
}

// IsExempt reports whether the configuration exempts an address.
func (c *Config) IsExempt(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range c.Exempt {
		if Canonical(p).Contains(a) {
			return true
		}
	}
	return false
}

// Canonical returns a prefix without host bits, and one of IPv4-mapped addresses as one of IPv4.
func Canonical(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
