package bpf

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"
)

// Bounds of the kernel half.
const (
	// BucketSize is the number of contacts of one bucket, and of one reply (Kademlia's k).
	BucketSize = 8
	// Buckets is the number of lengths of prefix that a contact can share with our node ID.
	Buckets = 160
)

// Errors of this package, to be compared with errors.Is.
var (
	// ErrNotSupported says that the kernel or the interface has no XDP of the kind that was asked for.
	ErrNotSupported = errors.New("XDP is not supported")
	// ErrPermission says that the process may not load or attach XDP programs (CAP_NET_ADMIN and CAP_BPF, or root).
	ErrPermission = errors.New("no permission for XDP")
	// ErrBusy says that another XDP program is attached to the interface.
	ErrBusy = errors.New("another XDP program is attached")
	// ErrNoInterface says that no interface has that index.
	ErrNoInterface = errors.New("no such interface")
	// ErrSnapshot says that a snapshot breaks the rules of its type.
	ErrSnapshot = errors.New("invalid snapshot")
	// ErrEndpoint says that an endpoint is not a unicast address with a port.
	ErrEndpoint = errors.New("invalid endpoint")
	// ErrClosed says that the program was closed.
	ErrClosed = errors.New("program is closed")
)

// Mode says where in the receive path an XDP program runs.
type Mode uint8

// Modes.
const (
	// ModeAuto tries native mode, then generic mode.
	ModeAuto Mode = iota
	// ModeNative runs in the NIC's driver, before a socket buffer exists.
	ModeNative
	// ModeGeneric runs in the network core, on any interface, at a higher cost per packet.
	ModeGeneric
)

// String gives the mode as it is written in the configuration.
func (m Mode) String() string { return [...]string{"auto", "native", "generic"}[m] }

// Config says how to load the program.
type Config struct {
	// PinDir is a directory on a BPF file system in which maps and links are pinned, so that they survive the
	// process. Empty: nothing is pinned.
	PinDir string
	// Version is the v of every reply; zero means that of router/krpc, "KD\x00\x01".
	Version [4]byte
}

// Counter is the number of datagrams that left the program for one reason.
type Counter struct {
	Reason  string // label, such as "answered" or "not_ours"
	Query   string // "ping", "find_node", "get_peers" or "get" where Reason is "answered", else empty
	Packets uint64 // since the maps were created, all CPUs
}

// Sighting is a node that queried us, reported at most once per address and five minutes.
type Sighting struct {
	ID   [20]byte
	Addr netip.AddrPort
}

// Program is a loaded kernel half. Its methods are safe for concurrent use.
type Program struct{}

// Load loads the program and its maps. It reuses compatible maps pinned in PinDir.
func Load(Config) (*Program, error) { return nil, ErrNotSupported }

// Publish makes s what the program answers from. It is atomic for readers: a reply comes wholly from one snapshot.
func (p *Program) Publish(s *Snapshot) error { return ErrClosed }

// Hold says that key, a target or infohash, is held here: get and get_peers for it go up.
func (p *Program) Hold(key [20]byte) error { return ErrClosed }

// Release says that key is no longer held here.
func (p *Program) Release(key [20]byte) error { return ErrClosed }

// HoldAll makes keys the set of keys held here.
func (p *Program) HoldAll(keys iter.Seq[[20]byte]) error { return ErrClosed }

// SetEndpoints makes addrs the addresses and ports whose datagrams are ours; all others pass.
func (p *Program) SetEndpoints(addrs []netip.AddrPort) error { return ErrClosed }

// Renew lets the program answer for d from now (CLOCK_MONOTONIC); without renewal it then passes everything.
// Zero or less ends the lease at once.
func (p *Program) Renew(d time.Duration) error { return ErrClosed }

// Attach attaches the program to an interface, or updates the program that an earlier process left there, and
// returns the mode it got.
func (p *Program) Attach(ifindex int, mode Mode) (Mode, error) { return 0, ErrClosed }

// Detach detaches the program from an interface.
func (p *Program) Detach(ifindex int) error { return ErrClosed }

// Counters returns one counter for every way out of the program.
func (p *Program) Counters() ([]Counter, error) { return nil, ErrClosed }

// Sightings calls f for every sighting until ctx ends or the program is closed.
func (p *Program) Sightings(ctx context.Context, f func(Sighting)) error { return ErrClosed }

// Run runs the program once on an Ethernet frame (BPF_PROG_TEST_RUN) and returns the XDP verdict and the frame
// as the program left it.
func (p *Program) Run(frame []byte) (verdict uint32, out []byte, err error) { return 0, nil, ErrClosed }

// Close releases the program. With detach it is detached from every interface and all pins are removed; without,
// pinned links and maps stay for the next process.
func (p *Program) Close(detach bool) error { return ErrClosed }
