package history

import (
	"math"
	"strconv"
)

// Metric is one of the things that are kept.
type Metric int

// The metrics. Rates are per second.
const (
	Kernel        Metric = iota // queries answered by the kernel half, a rate
	User                        // queries answered by user space, a rate
	KernelDropped               // datagrams dropped by the kernel half, a rate
	UserDropped                 // datagrams dropped by user space, a rate
	Sent                        // our own queries, a rate
	Recursions                  // clients' recursive queries taken on, a rate
	Lookups                     // lookups under way
	RTT4                        // round trip of our queries over IPv4, seconds
	RTT6                        // the same over IPv6
	Metrics                     // how many there are
)

// about says what programs and people are told of a metric.
var about = [Metrics]struct {
	name, help string
	rate       bool
}{
	Kernel:        {"kernel", "queries answered by the kernel half, per second", true},
	User:          {"user", "queries answered by user space, per second", true},
	KernelDropped: {"kernelDropped", "datagrams dropped by the kernel half, per second", true},
	UserDropped:   {"userDropped", "datagrams dropped by user space, per second", true},
	Sent:          {"sent", "the node's own queries, per second", true},
	Recursions:    {"recursions", "recursive queries of clients, per second", true},
	Lookups:       {"lookups", "lookups under way", false},
	RTT4:          {"rttIPv4", "smoothed round trip of the node's queries over IPv4, seconds", false},
	RTT6:          {"rttIPv6", "the same over IPv6", false},
}

// String names the metric as JSON does.
func (m Metric) String() string { return about[m].name }

// Help says what the metric is.
func (m Metric) Help() string { return about[m].help }

// Rate says that readings of the metric are a counter.
func (m Metric) Rate() bool { return about[m].rate }

// Reading is every metric at one moment: the counter of those that are rates, else the level; NaN for what is not known.
type Reading [Metrics]float64

// Value is a rate or a level; NaN, null in JSON, where there was none.
type Value float32

// Known says that there is a value.
func (v Value) Known() bool { return v == v }

var gap = Value(math.NaN())

// MarshalJSON writes four digits, which is more than anybody can see.
func (v Value) MarshalJSON() ([]byte, error) {
	if !v.Known() || math.IsInf(float64(v), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(v), 'g', 4, 32), nil
}

// UnmarshalJSON reads what MarshalJSON has written.
func (v *Value) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = gap
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 32)
	if err != nil {
		return err
	}
	*v = Value(f)
	return nil
}
