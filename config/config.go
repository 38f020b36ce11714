package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is the effective configuration of one node. The comments give what the values mean to the program; what the
// user reads about them is in the table of keys.
type Config struct {
	Network    Network          // which DHT the node belongs to
	Listen     []netip.AddrPort // UDP addresses to serve on; at least one, no two alike
	Bootstrap  []string         // HOST:PORT of nodes to join through; empty: none
	Interfaces []string         // names of the interfaces to attach XDP to; empty: all suitable ones
	External   []netip.Addr     // our public addresses, at most one per family; empty: the host's own, or learnt from replies (BEP 42)
	NodeIDSeed string           // node IDs are derived from it and the external address; empty: random, kept in the store
	State      string           // directory of the database
	HTTP       string           // ADDR:PORT of the status page; empty: no status page
	Hostname   string           // name of the machine, on the appliance; empty: made from its MAC address

	Discovery   Discovery // whether nodes on the same LAN find each other
	NetworkName string    // of the network, for discovery: nodes with another one are left alone

	XDP       XDP
	Store     Store
	Token     Token
	Table     Table
	Lookup    Lookup
	Recursion Recursion
	Limits    Limits
	Gateway   Gateway
	Names     Names
	Update    Update
	Tailnet   Tailnet
	Log       Log
}

// Network says which DHT the node belongs to.
type Network string

// Networks.
const (
	// Public is the Mainline DHT: only public unicast addresses, node IDs by BEP 42.
	Public Network = "public"
	// Private is a DHT of one's own: private addresses are nodes like any other.
	Private Network = "private"
)

// Discovery says whether nodes on the same LAN find each other by DNS-SD.
type Discovery string

// Kinds of discovery.
const (
	DiscoveryAuto Discovery = "auto" // in a private network
	DiscoveryOn   Discovery = "on"
	DiscoveryOff  Discovery = "off"
)

// Discover reports whether nodes on the same LAN are to be found.
func (c *Config) Discover() bool {
	return c.Discovery == DiscoveryOn || c.Discovery == DiscoveryAuto && c.Network == Private
}

// QueriesPerNode is how many queries a second one IP address is sent: what limits.queriesPerNode says, or what the
// nodes of the network bear. libtorrent, of which the public one consists largely, bans who sends 50 datagrams in 10 s.
func (c *Config) QueriesPerNode() float64 {
	switch {
	case c.Limits.QueriesPerNode > 0:
		return c.Limits.QueriesPerNode
	case c.Network == Private:
		return 100
	default:
		return 2.8
	}
}

// RecursionQueries is how many queries a second are sent for clients: what recursion.queriesPerSecond says, or what is more than a
// busy box needs and harms nobody: strangers in the public network, our own boxes in a private one.
func (c *Config) RecursionQueries() int {
	switch {
	case c.Recursion.QueriesPerSecond > 0:
		return c.Recursion.QueriesPerSecond
	case c.Network == Private:
		return 10_000
	default:
		return 2000
	}
}

// XDPMode says where the kernel half is attached.
type XDPMode string

// Modes of attachment.
const (
	XDPAuto    XDPMode = "auto"    // native where the driver can, else generic
	XDPNative  XDPMode = "native"  // in the driver, or not at all
	XDPGeneric XDPMode = "generic" // in the network core
	XDPOff     XDPMode = "off"     // everything is served from user space
)

// XDP configures the kernel half.
type XDP struct {
	Mode   XDPMode
	Linger time.Duration // how long the kernel half goes on answering after a clean stop; 0: it is detached at the stop
	Lease  time.Duration // how long it goes on answering after a crash

	HotBytes int64 // memory for what is asked often and answered in the kernel; 0: nothing is
	HotAfter int   // so many queries within about ten seconds make a key hot
}

// Store bounds what is kept for others.
type Store struct {
	MaxBytes            int64         // all items and peers together
	MaxItems            int           // BEP 44 items
	MaxInfohashes       int           // infohashes with announced peers
	MaxPeersPerInfohash int           // announced peers of one infohash
	MaxBytesPerSource   int64         // what one IPv4 address or IPv6 /64 may occupy
	ItemTTL             time.Duration // items expire so long after their last put
	PeerTTL             time.Duration // peers expire so long after their last announce
}

// Token configures write tokens.
type Token struct {
	Rotation time.Duration // life of a secret; its predecessor is accepted for as long again
}

// Table configures the routing tables.
type Table struct {
	Bits int           // b, 1 to 5: bits of an ID that the tables tell apart at a time
	Save time.Duration // the tables are saved to the store so often
}

// Lookup configures our own queries.
type Lookup struct {
	Alpha     int           // queries in flight per lookup and family
	Timeout   time.Duration // a lookup ends after so long with what it has
	Republish time.Duration // own items and announces are put again so often
}

// Recursion configures lookups for clients that have no DHT logic.
type Recursion struct {
	Allow            []netip.Prefix // addresses of clients; empty: no recursion
	MaxLookups       int            // under way
	QueriesPerSecond int            // of all recursions together; 0: by the network, see [Config.RecursionQueries]
	MaxPerClient     int            // queries of one IPv4 address or IPv6 /64 that wait
	CacheBytes       int64          // fetched items that are kept, overhead included
	CacheTTL         time.Duration  // a fetched mutable item is looked up again after so long
}

// Limits bounds what we send to other nodes, and what others may ask of us. Of the latter, 0 is no bound.
type Limits struct {
	QueriesPerNode   float64 // queries per second to one IP address; 0: what others of the network bear, see [Config.QueriesPerNode]
	QueriesPerSecond int     // queries per second to all nodes together

	PerSource         float64        // datagrams per second from one IPv4 address or IPv6 /64
	Burst             int            // as many at once
	UnprovenBytes     int64          // per second by which replies to sources that may be forged exceed their queries, all together
	UnprovenDatagrams int            // per second that the kernel half passes up from sources that may be forged, all together
	Exempt            []netip.Prefix // sources without these limits
}

// Log configures the log.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is the format of log lines.
type LogFormat string

// Formats of log lines.
const (
	LogText LogFormat = "text" // key=value pairs
	LogJSON LogFormat = "json" // one JSON object per line
)
