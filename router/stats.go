package router

import (
	"net/netip"
	"time"
)

// Stats is the state of a node at one moment. Counts are since the node was made.
type Stats struct {
	Families []FamilyStats
	// Ready says that the node has found its place in the network.
	Ready bool
	// Lookups are those under way.
	Lookups int
	// InFlight is how many queries wait for their answer.
	InFlight int
	Counters []Counter
	// Published is when the tables were last given to the kernel half and to the readers here.
	Published time.Time
}

// FamilyStats is the state of one family's DHT.
type FamilyStats struct {
	Family       Family
	ID           ID
	Listen       []netip.AddrPort
	External     netip.Addr // as other nodes see us; the zero Addr if not known
	Votes        int        // of those, how many say so
	Secure       bool       // the ID follows BEP 42
	Contacts     int
	Good         int
	Buckets      []BucketStat
	RTT          time.Duration // smoothed, of all queries
	EstimatedNet float64       // nodes in the network, from how close the closest ones are; 0 if unknown
}

// Counter is one of the node's counters.
type Counter struct {
	Group string // what is counted: "query", "answer", "sent", "drop", ...
	Name  string // one value of it
	Value uint64
}

// Stats returns the present state.
func (n *Node) Stats() Stats { return Stats{} }
