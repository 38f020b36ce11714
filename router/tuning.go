package router

import "time"

// tableBits is the default b. In a network of 100,000 nodes in memory (router/sim/scale, 300 lookups for each b, the contacts'
// upkeep with nobody heard of otherwise):
//
//	b                                  1     2     3     4     5
//	contacts of a node               116   215   398   729  1342
//	hops of find_node               4.07  3.47  2.98  2.74  2.42
//	messages of a recursive get      6.6   5.5   4.8   4.2   3.9
//	messages of a get by lookup     17.5  14.9  13.2  11.7  10.6
//	memory, KiB                      116   151   222   357   617
//	upkeep, messages per second      0.3   0.5   0.9   1.6   3.0
//
// Each step nearly doubles the upkeep, and the last saves a third of a message. The kernel half answers alike with any b while
// the nearest bucket is full, as nearly all are in a large network.
const tableBits = 4

// Tuning is what of the protocol's parameters can be chosen. A zero means the default.
type Tuning struct {
	// Bits is b of the routing tables, 1 to 5: how many bits of an ID they tell apart at a time, see [Table]. Default 4.
	Bits int
	// Alpha is how many queries of a lookup may be without answer, per family. Default 3.
	Alpha int
	// LookupTime bounds a lookup; what was found by then is its outcome. Default 1 min.
	LookupTime time.Duration
	// TokenLife is how long one secret makes write tokens; they are good for once to twice as long. Default 5 min
	// (BEP 5).
	TokenLife time.Duration
	// SaveEvery is how often the tables are saved. Default 5 min.
	SaveEvery time.Duration
	// RepublishEvery is how often own items are put again. Default 1 h (BEP 44).
	RepublishEvery time.Duration
	// QueryRatePerNode bounds the queries to one IP address, per second, after a burst of 8, or of a quarter of a second's if
	// that is more. Those of the kernel half count. Loopback addresses are exempt. Default 20/7, one every 350 ms.
	QueryRatePerNode float64
	// HotAfter is how many queries within about ten seconds make a key hot that is held here: the kernel half then
	// answers for it. Default 8.
	HotAfter int
}

// orDefaults fills in the defaults.
func (t Tuning) orDefaults() Tuning {
	set(&t.Bits, tableBits)
	set(&t.Alpha, alpha)
	set(&t.LookupTime, lookupTime)
	set(&t.TokenLife, tokenLife)
	set(&t.SaveEvery, saveEvery)
	set(&t.RepublishEvery, republishEvery)
	set(&t.QueryRatePerNode, float64(time.Second)/float64(destinationInterval))
	set(&t.HotAfter, hotAfter)
	return t
}

// set gives a parameter that was not chosen its default.
func set[T int | int64 | float64 | time.Duration](x *T, def T) {
	if *x <= 0 {
		*x = def
	}
}
