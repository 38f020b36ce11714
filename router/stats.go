package router

import (
	"math"
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
	// Announces is how many announces are being repeated.
	Announces int
	// Hot is how many keys the kernel half answers for.
	Hot int
	// Hottest are the keys held here that are asked for most, at most 10, the most wanted first.
	Hottest   []HotKey
	Recursion RecursionStats
}

// RecursionStats is the state of recursion.
type RecursionStats struct {
	// Allow are the prefixes that it is done for; none: it is switched off.
	Allow []netip.Prefix
	// UnderWay is how many recursions are.
	UnderWay int
	// Cached is how many fetched items are kept, CacheBytes what they cost.
	Cached     int
	CacheBytes int64
	// Times counts the recursions that were answered by how long they took, each within one of [RecursionBounds] and in none
	// before; the last beyond all of them. TimeSum is all their times together.
	Times   [len(RecursionBounds) + 1]uint64
	TimeSum time.Duration
	// Hops counts the same by the referrals followed, those that the kernel half followed included; the last is for so many or
	// more.
	Hops [maxHopsCounted + 1]uint64
}

// FamilyStats is the state of one family's DHT.
type FamilyStats struct {
	Family   Family
	ID       ID
	Listen   []netip.AddrPort
	External netip.Addr // as other nodes see us; the zero Addr if not known
	Votes    int        // of the last nodes asked, how many say so
	Secure   bool       // the ID follows BEP 42, or need not
	Contacts int
	Good     int
	Bits     int // b: the table tells IDs apart so many bits at a time, see [Table]
	Levels   []LevelStat
	Buckets  []BucketStat  // of the levels
	RTT      time.Duration // smoothed, of all queries
	// Answered is when a query of ours was last answered, the zero Time if none was; Silence is how many were not since.
	Answered time.Time
	Silence  int
	// NetworkSize is an estimate of the number of nodes in the network, from how close the closest contacts are; 0
	// if there are too few.
	NetworkSize float64
}

// Counter is one of the node's counters.
type Counter struct {
	Group string // what is counted: "query received", "error sent", "drop", ...
	Name  string // which of them: the method, the code, the reason
	Value uint64
}

// Stats returns the present state.
func (n *Node) Stats() Stats {
	s := Stats{
		Lookups: int(n.lookups.Load()), InFlight: n.transactions.len(), Counters: n.list(),
		Published: time.Unix(0, n.published.Load()), Announces: n.announces.len(),
	}
	s.Recursion = RecursionStats{Allow: n.recursor.config.Allow, UnderWay: n.recursor.len()}
	s.Recursion.Cached, s.Recursion.CacheBytes = n.recursor.cache.size()
	n.recursor.took.fill(&s.Recursion)
	select {
	case <-n.ready:
		s.Ready = true
	default:
	}
	now := time.Now()
	s.Hot, s.Hottest = n.hot.len(), n.hot.hottest(now)
	for f, t := range n.tables {
		if t == nil {
			continue
		}
		fs := FamilyStats{Family: Family(f), RTT: n.rtt[f].value()}
		fs.External, fs.Votes = n.external[f].agreeing()
		for _, socket := range n.sockets {
			if socket.family == fs.Family {
				fs.Listen = append(fs.Listen, socket.conn.LocalAddr())
			}
		}
		n.mu.Lock()
		fs.ID, fs.Contacts, fs.Good, fs.Bits = t.Self(), t.Len(), t.Good(now), t.Bits()
		fs.Levels, fs.Buckets = t.Levels(now), t.Buckets(now)
		closest := t.Closest(fs.ID, bucketSize)
		n.mu.Unlock()
		if at := n.heard[f].Load(); at != 0 {
			fs.Answered = time.Unix(0, at)
		}
		fs.Silence = int(n.silence[f].Load())
		fs.Secure = fs.External.IsValid() && n.mayKeep(fs.ID, fs.External)
		fs.NetworkSize = networkSize(fs.ID, closest)
		s.Families = append(s.Families, fs)
	}
	return s
}

// networkSize estimates how many nodes there are from the distances of the closest: the i-th of N nodes at random
// places is expected at i/(N+1) of the whole space. The estimate is the least squares fit through all of them.
func networkSize(self ID, closest []Contact) float64 {
	if len(closest) < bucketSize {
		return 0
	}
	var num, den float64
	for i, c := range closest {
		d := Distance(self, c.ID)
		frac := 0.0
		for j := range 8 {
			frac += float64(d[j]) * math.Pow(256, float64(-j-1))
		}
		rank := float64(i + 1)
		num += rank * rank
		den += rank * frac
	}
	if den == 0 {
		return 0
	}
	return num/den - 1
}
