package store

import (
	"log/slog"
	"time"
)

// Options bounds a store. The zero value is usable: a zero field takes its default.
// In the quotas a negative number means no bound.
type Options struct {
	// MaxBytes bounds the cost of all items and peers together. The cost of an item
	// is its value, salt, key, signature and about 100 bytes of bookkeeping, that of
	// a peer 64 bytes. The file is larger than that, by about a half. Default 64 MiB.
	MaxBytes int64
	// MaxItems bounds the number of items. Default 100,000.
	MaxItems int
	// MaxInfohashes bounds the number of infohashes with peers. Default 20,000.
	MaxInfohashes int
	// MaxPeersPerInfohash bounds the peers of one infohash, both address families
	// together. Default 500.
	MaxPeersPerInfohash int
	// MaxBytesPerSource bounds the cost of all items and peers whose last put or
	// announce came from one IPv4 address or one IPv6 /64. Default 1 MiB.
	MaxBytesPerSource int64

	// ItemTTL is how long an item lives after its last put. Resolution 1 s, rounded
	// up. Default 2 h (BEP 44).
	ItemTTL time.Duration
	// PeerTTL is how long a peer lives after its last announce. Resolution 1 s,
	// rounded up. Default 30 min.
	PeerTTL time.Duration

	// AnnounceInterval is the least time between two commits that only carry
	// announces: an announce may wait that long for others to share its fsync with,
	// a put never. It bounds the wear of flash storage. Default 20 ms, negative: none.
	AnnounceInterval time.Duration
	// LockTimeout is how long Open waits for another process to release the file
	// before it fails with ErrLocked. Default 1 s.
	LockTimeout time.Duration
	// CheckTimeout bounds the integrity check that Open makes. What a big file on a
	// slow disk leaves unchecked is found damaged, if it is, when it is used.
	// Default 3 s.
	CheckTimeout time.Duration

	// Now is the wall clock, which may be set at any time. Default time.Now.
	Now func() time.Time
	// Elapsed is the clock that expiry follows while the store is open: the time since
	// some moment, never set. Default: by the monotonic readings of Now, if it has any.
	Elapsed func() time.Duration
	// Logger gets what the owner of the box should know. Default: discarded.
	Logger *slog.Logger

	// migrations replaces the package's own, in tests.
	migrations []migration
}

func (o Options) withDefaults() Options {
	def(&o.MaxBytes, 64<<20)
	def(&o.MaxItems, 100_000)
	def(&o.MaxInfohashes, 20_000)
	def(&o.MaxPeersPerInfohash, 500)
	def(&o.MaxBytesPerSource, 1<<20)
	def(&o.ItemTTL, 2*time.Hour)
	def(&o.PeerTTL, 30*time.Minute)
	def(&o.AnnounceInterval, 20*time.Millisecond)
	def(&o.LockTimeout, time.Second)
	def(&o.CheckTimeout, 3*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Elapsed == nil {
		wall := o.Now
		began := wall()
		o.Elapsed = func() time.Duration { return wall().Sub(began) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.migrations == nil {
		o.migrations = migrations
	}
	return o
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// maxKeys is how many keys the quotas allow, negative if they do not bound them.
func (o *Options) maxKeys() int64 {
	n := int64(-1)
	if o.MaxItems >= 0 && o.MaxInfohashes >= 0 {
		n = int64(o.MaxItems) + int64(o.MaxInfohashes)
	}
	if o.MaxBytes >= 0 { // no key costs less than one peer
		if dear := o.MaxBytes / peerCost; n < 0 || dear < n {
			n = dear
		}
	}
	return n
}

// over reports whether n exceeds the quota limit.
func over[T int | int64](n, limit T) bool { return limit >= 0 && n > limit }
