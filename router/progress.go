package router

import "net/netip"

// Progress is the state of a lookup while it runs.
type Progress struct {
	// Queried, Answered and Failed count nodes.
	Queried, Answered, Failed int
	// InFlight is how many queries wait for their answer.
	InFlight int
	// Closest is the ID nearest to the target of all that answered; the zero ID if none did yet.
	Closest ID
	// Bits is how many leading bits Closest shares with the target.
	Bits int
	// Found counts what was looked for: peers, or nodes that returned a valid item.
	Found int
	// Stored and Refused count the answers to put and announce_peer.
	Stored, Refused int
}

// Option adjusts one operation.
type Option func(*options)

type options struct {
	progress func(Progress)
	families []Family
	keep     bool
	noSeeds  bool
	scrape   bool
	cached   bool
	client   netip.Addr
	steps    func(Step)
}

// WithProgress calls f whenever something changed. f is called by one goroutine at a time and must not block.
func WithProgress(f func(Progress)) Option {
	return func(o *options) { o.progress = f }
}

// WithFamilies restricts an operation to the DHT of these families. Default: all that the node has sockets for.
func WithFamilies(f ...Family) Option {
	return func(o *options) { o.families = f }
}

// Keep makes the node repeat a put hourly, or an announce every 15 to 20 minutes, so that it outlives its expiry at
// other nodes. Kept items survive a restart if the node has a store; kept announces end with the node.
func Keep() Option {
	return func(o *options) { o.keep = true }
}

// WithoutSeeds asks for peers that are not seeds (BEP 33).
func WithoutSeeds() Option {
	return func(o *options) { o.noSeeds = true }
}

// WithScrape asks for the number of peers, as far as nodes count them (BEP 33).
func WithScrape() Option {
	return func(o *options) { o.scrape = true }
}

// Cached accepts an item that was fetched lately, for a call with this option or for a recursive query, in place of a
// lookup, and keeps what is found for the next one. [Recursion] says how long, and in how much memory.
func Cached() Option {
	return func(o *options) { o.cached = true }
}

// For charges what a put stores at this node to a client, as if it had come from that address in a query. Default: the
// node itself, which has no quota of its own.
func For(client netip.Addr) Option {
	return func(o *options) { o.client = client }
}
