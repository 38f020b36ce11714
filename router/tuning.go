package router

import "time"

// Tuning is what of the protocol's parameters can be chosen. A zero means the default.
type Tuning struct {
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
	// QueryRatePerNode bounds the queries to one IP address, per second, after a burst of 8. Loopback addresses are
	// exempt. Default 20/7, one every 350 ms.
	QueryRatePerNode float64
	// HotAfter is how many queries within about ten seconds make a key hot that is held here: the kernel half then
	// answers for it. Default 8.
	HotAfter int
}

// orDefaults fills in the defaults.
func (t Tuning) orDefaults() Tuning {
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
