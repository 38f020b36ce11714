package kernel

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"kdht/appliance/link"
	"kdht/bpf"
	"kdht/bpf/limit"
	"kdht/router"
)

// Program is what this package needs of *bpf.Program. The methods are documented there.
type Program interface {
	router.Kernel
	HoldAll(keys iter.Seq[[20]byte]) error
	HoldMissing() error
	SetLimits(c limit.Config) error
	Held() bpf.Held
	Hot() bpf.Hot
	SetEndpoints(addrs []netip.AddrPort, many ...netip.AddrPort) error
	Renew(d time.Duration) error
	Attach(ifindex int, mode bpf.Mode) (bpf.Mode, error)
	Detach(ifindex int) error
	Attachments() []bpf.Attachment
	Relaunch(ifindex int) (lost bool, err error)
	Counters() ([]bpf.Counter, error)
	Events() ([]bpf.EventCounter, error)
	Jited() (bool, error)
	Sightings(ctx context.Context, f func(bpf.Sighting)) error
	SetClients(prefixes []netip.Prefix) error
	SetRoutes(routes []bpf.Route) error
	SetNeighbours(neighbours []bpf.Neighbour) error
	AddNeighbour(n bpf.Neighbour) error
	RemoveNeighbour(n bpf.Neighbour) error
	AllowRecursion(d time.Duration, private bool) error
	Recursions(ctx context.Context, f func()) error
	TakeRecursion(tid []byte, from netip.AddrPort, answer func(*bpf.Recursion) bool) (bpf.Recursion, bool, error)
	SetPatience(hop time.Duration) error
	TakeOverdue(hop, whole time.Duration) ([]bpf.Recursion, bpf.UnderWay, error)
	Dismiss(tid [4]byte) error
	Close(detach bool) error
}

var _ Program = (*bpf.Program)(nil)

// Node is what this package needs of *router.Node. The methods are documented there.
type Node interface {
	SetKernel(k router.Kernel) error
	Sighting(c router.Contact, proven bool)
	SetKernelRecursion(k router.KernelRecursion)
	Resume(st router.RecursionState) error
	HopPatience() time.Duration
	Ready() <-chan struct{}
}

var _ Node = (*router.Node)(nil)

// Links is a source of interface states; *link.Watcher is one.
type Links interface {
	Run(ctx context.Context, f func([]link.Link)) error
	Refresh()
	Close() error
}
